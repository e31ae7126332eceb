// Decisions of a reviewer: the form that asks for the reason, the jobs that bring them into effect, and the log.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, itemPath, post, remove, requestKey, token, url, useAnswer } from "./api.js";
import { Busy, count, FaultNote, shown, Table, Text, Time, titleOf, words } from "./parts.jsx";
import { link } from "./route.js";

const FIELDS = ["title", "description", "category", "creator", "tags", "price"];
const TEXTS = ["summary", "keyword", "query", "text"]; // claims that are no attributes
const ENDED = ["done", "failed"];
const DONE = { approve: "Approved", reject: "Rejected", correct: "Corrected", undo: "Undone" };
export const VERBS = { approve: "Approve", reject: "Reject", correct: "Correct" };

// -- decisions of this tab: kept while one goes from view to view

let own = [];
let ended = 0; // how many came into effect: lists that a decision changes load again
const listeners = new Set();
const tell = () => listeners.forEach((listener) => listener({}));

export function useDecisions() {
  const [, setSeen] = useState({});
  useEffect(() => {
    listeners.add(setSeen);
    return () => listeners.delete(setSeen);
  }, []);
  return { own, ended };
}

function change(one, news) {
  Object.assign(one, news);
  tell();
}

/** Wait until the server answers from a publication: it looks for new ones every second. */
async function followed(publication) {
  for (let tries = 0; tries < 40; tries++) {
    const ready = await get("/readyz").catch(() => null);
    if (ready?.publication >= publication) return;
    await new Promise((done) => setTimeout(done, 500));
  }
}

async function follow(one) {
  for (let pause = 300; !ENDED.includes(one.state); pause = Math.min(4000, 1.4 * pause)) {
    await new Promise((done) => setTimeout(done, pause));
    try {
      const job = await get(`/v1/jobs/${encodeURIComponent(one.job_id)}`);
      const refused = job.results.filter((result) => result.state === "refused");
      const result = refused[0] || job.results[0] || {};
      change(one, {
        state: refused.length && refused.length === job.results.length ? "failed" : job.state, // no fault of the job
        detail: [refused.length && job.rows > 1 ? `${refused.length} of ${job.rows} refused:` : "", job.detail || result.detail].filter(Boolean).join(" "),
        now: job.rows === 1 ? result.item_state : "",
        publication: job.publication,
        decisions: job.results.map((each) => each.decision_id).filter(Boolean),
      });
    } catch (fault) {
      if ([401, 403, 404].includes(fault.status)) change(one, { state: "failed", detail: fault.message });
      else change(one, { detail: fault.message });
    }
  }
  if (one.state === "done" && one.publication) await followed(one.publication);
  change(one, { isOver: true });
  ended += 1;
  tell();
  if (one.undoing && one.state === "done") undo(one.decisions, one.what, one.items, "decided by mistake", one);
}

function begin(job, what, items, undone = false) {
  const one = { job_id: job.job_id, state: job.state, detail: "", what, items, decisions: [], undone };
  own = [one, ...own].slice(0, 20);
  tell();
  follow(one);
  return one;
}

function told(row, title) {
  if (row.stage) return `${DONE[row.action]} ${title} at ${row.stage}`;
  if (row.claim) return `${DONE[row.action]} ${words(row.claim)} “${row.value}” of ${title}`;
  return row.field ? `${DONE[row.action]} ${words(row.field)} of ${title}` : `${DONE[row.action]} ${title}`;
}

/** Send decisions, one or several of a kind, as one job. */
export async function decide(rows, title) {
  const by = token() ? "" : localStorage.getItem("coldstart.by") || "";
  const signed = rows.map((row) => (by ? { ...row, by } : row));
  const body = signed.length > 1 ? { decisions: signed } : signed[0];
  const job = await post("/v1/decisions", body, undefined, { "Idempotency-Key": requestKey() });
  return begin(job, signed.length > 1 ? `${told(rows[0], title)} and ${rows.length - 1} more` : told(rows[0], title), rows.map((row) => row.item_id));
}

async function undo(decisions, what, items, reason, source) {
  try {
    const by = token() ? "" : localStorage.getItem("coldstart.by") || "";
    let job = null;
    for (const decision of decisions) job = await remove(`/v1/decisions/${encodeURIComponent(decision)}`, by ? { reason, by } : { reason });
    if (source) change(source, { undone: true });
    begin(job, `Undone: ${what[0].toLowerCase()}${what.slice(1)}`, items, true); // jobs are done in their order: the last tells of all
  } catch (fault) {
    if (source) change(source, { undoing: false, detail: fault.message });
    else throw fault;
  }
}

/** Undo the last decision of this tab; one that is still under way is undone as soon as it has an id. */
export function undoLast() {
  const last = own.find((one) => !one.undone && !one.undoing && one.state !== "failed");
  if (last) undoOne(last);
}

function undoOne(one) {
  change(one, { undoing: true });
  if (one.state === "done") undo(one.decisions, one.what, one.items, "decided by mistake", one);
}

const ownOf = (all, item) => all.filter((one) => !item || one.items.includes(item));

/** Decisions of this tab with their state until they are in effect; `item`: those on one item alone. */
export function UnderWay({ item }) {
  const mine = ownOf(useDecisions().own, item);
  return (
    <div class="underway" role="status" aria-label="Decisions under way">
      {mine.slice(0, 3).map((one) => (
        <p key={one.job_id}>
          <Text>{one.what}</Text> <span class={`mark ${one.state}`}>{one.state !== "done" ? one.state : one.isOver ? "in effect" : "published"}</span>{" "}
          {one.state === "done" ? <span class="quiet">{[one.now && `now ${words(one.now)}`, one.publication].filter(Boolean).join(", ")}</span> : null} {one.detail ? <Text class={one.state === "failed" ? "fault" : "quiet"}>{one.detail}</Text> : null}{" "}
          {one.undone || one.state === "failed" ? null : one.undoing ? (
            <span class="quiet">to be undone</span>
          ) : (
            <button type="button" class="plain" aria-label={`Undo: ${shown(one.what)}`} onClick={() => undoOne(one)}>
              Undo
            </button>
          )}
        </p>
      ))}
    </div>
  );
}

// -- forms

/** Form of one decision on `target`: `{item_id, title, stage, claim, value}`; `record`: fields of the item, null while they load;
 *  `like`: other targets that the same decision can be made on. */
export function DecisionForm({ target, action, record, like = [], onEnd }) {
  const [fault, setFault] = useState(null);
  const [busy, setBusy] = useState(false);
  const [field, setField] = useState(target.claim && !TEXTS.includes(target.claim) ? `attributes.${target.claim}` : "title");
  const form = useRef(null);
  const loads = action === "correct" && !record;
  const item = record || {};
  const attribute = field === "attributes";
  const now = attribute ? "" : field.startsWith("attributes.") ? item.attributes?.[field.slice(11)] : item[field];
  const text = Array.isArray(now) ? now.join(", ") : (now ?? "");
  useLayoutEffect(() => {
    form.current.querySelector(action === "correct" ? "[name=value]" : "[name=reason]")?.focus(); // at once: a key that follows belongs to it
  }, [action, field, loads]);
  const submit = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    const reason = data.get("reason").trim();
    const rowOf = (one) => {
      const subject = one.claim ? { claim: one.claim, value: one.value } : action === "approve" ? { stage: one.stage } : {};
      return { item_id: one.item_id, action, reason, ...subject };
    };
    const row = action === "correct" ? { item_id: target.item_id, action, reason } : rowOf(target);
    const others = data.get("like") === "on" ? like : [];
    if (action === "correct") {
      row.field = attribute ? `attributes.${data.get("attribute").trim()}` : field;
      row.value = field === "tags" ? data.get("value").split(",").map((one) => one.trim()).filter(Boolean) : data.get("value").trim();
      if (row.value === "" || row.value.length === 0) row.value = null;
    }
    setBusy(true);
    try {
      sessionStorage.setItem("coldstart.reason", reason);
      if (data.has("by")) localStorage.setItem("coldstart.by", data.get("by").trim());
      await decide([row, ...others.map(rowOf)], target.title);
      onEnd(true, others);
    } catch (problem) {
      setFault(problem);
      setBusy(false);
    }
  };
  const what = action === "correct" ? "a field" : target.claim ? `the claim “${shown(target.value ?? target.claim)}”` : action === "approve" ? `at ${target.stage}` : "the item";
  return (
    <form
      ref={form}
      class="decision"
      onSubmit={submit}
      aria-label={`${VERBS[action]} ${what}`}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onEnd(false);
      }}
    >
      <h3 dir="auto">
        {VERBS[action]} {what}
      </h3>
      {action === "correct" ? (
        <div class="row">
          <label>
            Field
            <select value={field} onChange={(event) => setField(event.currentTarget.value)}>
              {FIELDS.map((one) => <option key={one}>{one}</option>)}
              {[...new Set([...Object.keys(item.attributes || {}), ...(field.startsWith("attributes.") ? [field.slice(11)] : [])])].map((one) => <option key={one} value={`attributes.${one}`}>{shown(one)}</option>)}
              <option value="attributes">another attribute…</option>
            </select>
          </label>
          {attribute ? <label>Attribute <input name="attribute" required maxlength="200" /></label> : null}
          <label class="grow">
            {field === "tags" ? "Tags, with commas between them" : "New value"}
            {field === "description" ? (
              <textarea name="value" rows="4" dir="auto" maxlength="100000" defaultValue={text} key={`${field} ${text}`} disabled={loads} />
            ) : (
              <input name="value" dir="auto" maxlength="10000" defaultValue={text} key={`${field} ${text}`} disabled={loads} />
            )}
          </label>
        </div>
      ) : null}
      <div class="row">
        <label class="grow">
          Reason
          <input name="reason" required maxlength="1000" dir="auto" defaultValue={sessionStorage.getItem("coldstart.reason") || ""} onFocus={(event) => event.currentTarget.select()} pattern=".*\S.*" title="some words" />
        </label>
        {token() ? null : <label>Your name <input name="by" maxlength="200" defaultValue={localStorage.getItem("coldstart.by") || ""} placeholder="local" autocomplete="name" /></label>}
        <button type="submit" disabled={busy || loads}>{VERBS[action]}</button>
        <button type="button" class="second" onClick={() => onEnd(false)}>Cancel</button>
      </div>
      {like.length && action !== "correct" ? (
        <label class="check">
          <input type="checkbox" name="like" /> also the {like.length === 1 ? "other one" : `${count(like.length)} others`} listed for the same reason
        </label>
      ) : null}
      <FaultNote fault={fault} />
    </form>
  );
}

function UndoForm({ decision, onEnd }) {
  const [fault, setFault] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await undo([decision.decision_id], `${decision.action} ${shown(decision.item_id)}`, [decision.item_id], new FormData(event.currentTarget).get("reason").trim());
      onEnd();
    } catch (problem) {
      setFault(problem);
    }
  };
  return (
    <form class="row undo" onSubmit={submit} onKeyDown={(event) => event.key === "Escape" && onEnd()}>
      <label class="grow">Why undo it <input name="reason" required maxlength="1000" dir="auto" pattern=".*\S.*" title="some words" ref={(here) => here && here.focus()} /></label>
      <button type="submit">Undo</button>
      <button type="button" class="second" onClick={onEnd}>Cancel</button>
      <FaultNote fault={fault} />
    </form>
  );
}

// -- log

/** Subject of a decision in words: `field:title` is the title, `stage:NAME` a gate. */
function subjectOf(subject) {
  const [kind, name] = String(subject).split(/:(.*)/s);
  if (kind === "stage") return `at ${name}`;
  return kind === "claim" ? `claim ${shown(words(name))}` : shown(name || kind);
}

const valueText = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? (Array.isArray(value) ? value.join(", ") : JSON.stringify(value)) : String(value));

export function DecisionLog({ item, may }) {
  const { ended: times, own: all } = useDecisions();
  const runs = ownOf(all, item).some((one) => !one.isOver && one.state !== "failed");
  const [undoing, setUndoing] = useState(null);
  const [older, setOlder] = useState({ times, rows: [], cursor: undefined, fault: null });
  const { data, fault, busy } = useAnswer(`decisions ${item || ""} ${times}`, (signal) => get(url("/v1/decisions", { item_id: item, limit: 20 }), signal));
  const mine = older.times === times ? older : { rows: [], cursor: undefined };
  const rows = [...(data?.decisions || []), ...mine.rows];
  const cursor = mine.cursor === undefined ? data?.next_cursor : mine.cursor;
  const next = () =>
    get(url("/v1/decisions", { item_id: item, limit: 20, cursor })).then(
      (page) => setOlder({ times, rows: [...mine.rows, ...page.decisions], cursor: page.next_cursor }),
      (problem) => setOlder({ ...mine, times, cursor, fault: problem }),
    );
  const of = (one) => (
    <>
      {item ? null : <a href={link("item", one.item_id)} dir="auto">{shown(one.item_id)}</a>} {subjectOf(one.subject)}{" "}
      {one.action === "correct" ? <><Text as="del">{valueText(one.before)}</Text> <Text as="ins">{valueText(one.value)}</Text></> : <Text>{valueText(one.value)}</Text>}
    </>
  );
  return (
    <>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {data && !rows.length && !runs ? <p class="quiet">No decisions yet.</p> : null}
      {rows.length ? (
        <Table
          label="Decisions"
          head={["Action", "Of", "Reason", "By", "At (UTC)", "State"]}
          rows={rows.map((one) => [
            VERBS[one.action] || one.action,
            of(one),
            <Text>{one.reason}</Text>,
            <Text>{one.by}</Text>,
            <Time at={one.at} />,
            one.undone_at ? (
              <>
                <span class="mark">undone</span> <span class="quiet"><Time at={one.undone_at} /> by <Text>{one.undone_by}</Text>: <Text>{one.undone_reason}</Text></span>
              </>
            ) : undoing === one.decision_id ? (
              <UndoForm decision={one} onEnd={() => setUndoing(null)} />
            ) : (
              <>
                <span class="mark">{one.in_force === false ? "not in force" : "in force"}</span>{" "}
                {may ? <button type="button" class="plain" aria-label={`Undo: ${one.action} ${shown(one.item_id)}`} onClick={() => setUndoing(one.decision_id)}>Undo</button> : null}
              </>
            ),
          ])}
        />
      ) : null}
      <FaultNote fault={mine.fault} />
      {cursor ? <button type="button" class="more" onClick={next}>Older decisions</button> : null}
    </>
  );
}

/** Whether a sender of `/v1/me` may decide, on a server that takes in changes. */
export const mayReview = (me) => Boolean(me?.writable && me.scopes.includes("review"));

export const targetOf = (entry) => ({ ...entry, title: titleOf(entry) });
