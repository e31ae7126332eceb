// Review: items and claims that were turned away, one beside its picture; a person approves, rejects or corrects.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, itemPath, url, useAnswer } from "./api.js";
import { DecisionForm, DecisionLog, targetOf, undoLast, UnderWay, useDecisions, mayReview, VERBS } from "./decide.jsx";
import { Busy, count, FaultNote, Notes, Player, shown, Text, titleOf, words } from "./parts.jsx";
import { go, link } from "./route.js";

const STATES = { filtered: "filtered", duplicate: "duplicates", failed: "failed", claim: "claims removed" };
const reasonOf = (entry) => shown(entry.words || words(entry.reason));
const MOST = 256; // decisions of one request
const keyOf = (entry) => JSON.stringify([entry.item_id, entry.state, entry.stage, entry.reason, entry.claim, entry.value]);

export function Original({ id }) {
  const { data, fault, busy } = useAnswer(id, (signal) => get(itemPath(id, "/report"), signal));
  return (
    <figure class="original media">
      <figcaption>
        Copy of <a href={link("item", id)} dir="auto">{shown(data?.report.item?.title || id)}</a>
      </figcaption>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {(data?.media || []).slice(0, 1).map((medium) => <Player key={medium.href} medium={medium} label={`Original: ${shown(data.report.item?.title || id)}`} />)}
    </figure>
  );
}

/** What is known of an item in words: what a claim is judged by. */
function Known({ report }) {
  const known = [
    ["Category", report?.item?.category], ["Description", report?.item?.description], ["Speech", report?.transcript],
    ["Text on screen", report?.screen_text], ["Served summary", report?.described?.summary],
  ].filter(([, text]) => text);
  return known.length ? (
    <dl class="fields">
      {known.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <Text as="dd">{text.length > 600 ? `${text.slice(0, 600)}…` : text}</Text>
        </div>
      ))}
    </dl>
  ) : null;
}

function Detail({ entry, like, may, action, setAction, sent }) {
  const title = titleOf(entry);
  const media = (entry.media || []).slice(0, 3);
  const { data, fault } = useAnswer(entry.item_id, (signal) => get(itemPath(entry.item_id, "/report"), signal));
  const report = data?.report;
  return (
    <section class="entry" aria-labelledby="entrytitle">
      <h2 id="entrytitle" dir="auto"><a href={link("item", entry.item_id)}>{title}</a></h2>
      <p>
        <span class={`mark ${entry.state}`}>{entry.state}</span> {entry.stage ? <span class="quiet">at {entry.stage}:</span> : null} <b>{reasonOf(entry)}</b>{" "}
        <Text class="quiet">{entry.detail}</Text>
      </p>
      {entry.claim ? <p class="removed">Removed: <span class="quiet">{words(entry.claim)}</span> <Text as="del">{entry.value}</Text></p> : null}
      {may ? (
        action ? (
          <DecisionForm key={action} target={targetOf(entry)} record={report?.item || (fault ? {} : null)} action={action} like={like.map(targetOf)} onEnd={sent} />
        ) : (
          <p class="decisions">
            {entry.actions.map((one) => (
              <button type="button" key={one} class={one === "approve" ? "" : "second"} onClick={() => setAction(one)} aria-keyshortcuts={one[0]}>
                {VERBS[one]} <kbd aria-hidden="true">{one[0]}</kbd>
              </button>
            ))}
            {entry.actions.length ? null : <span class="quiet">No decision applies: it takes another row in the manifest, or its media.</span>}
          </p>
        )
      ) : null}
      <div class={entry.original ? "beside" : ""}>
        <div class="media">
          {entry.original ? <p class="caption">The copy</p> : null}
          {media.length ? media.map((medium, place) => <Player key={medium.href} medium={medium} label={`${title}, medium ${place + 1}`} />) : <p class="quiet">It has no picture that can be shown.</p>}
        </div>
        {entry.original ? <Original id={entry.original} /> : null}
      </div>
      {entry.state === "failed" ? null : <Known report={report} />}
    </section>
  );
}

function Shortcuts({ on, setOn }) {
  return (
    <details class="shortcuts">
      <summary>Keys</summary>
      <p>
        <kbd>j</kbd> next, <kbd>k</kbd> previous, <kbd>a</kbd> approve, <kbd>r</kbd> reject, <kbd>c</kbd> correct, <kbd>u</kbd> undo the last, <kbd>Esc</kbd> leave the form
      </p>
      <label class="check">
        <input type="checkbox" checked={on} onChange={(event) => setOn(event.currentTarget.checked)} /> keys act
      </label>
    </details>
  );
}

function Filters({ given, counts, entries }) {
  const options = (name) => [...new Set(entries.map((entry) => entry[name]))].map((one) => <option key={one} value={one} />);
  const set = (event) => {
    const data = new FormData(event.currentTarget.form);
    go("review", "", { state: data.get("state"), stage: data.get("stage").trim(), reason: data.get("reason").trim(), item_id: given.item_id });
  };
  return (
    <form class="row filters" onSubmit={(event) => event.preventDefault()} aria-label="Filters">
      <label>
        State
        <select name="state" value={given.state} onChange={set}>
          <option value="">all</option>
          {Object.entries(STATES).map(([state, name]) => (
            <option key={state} value={state}>{counts && state in counts ? `${name} (${count(counts[state])})` : name}</option>
          ))}
        </select>
      </label>
      <label>Stage <input name="stage" defaultValue={given.stage} key={`s${given.stage}`} onChange={set} placeholder="understand.quality" spellcheck={false} list="stages" /></label>
      <datalist id="stages">{options("stage")}</datalist>
      <label>Reason <input name="reason" defaultValue={given.reason} key={`r${given.reason}`} onChange={set} placeholder="no_media" spellcheck={false} list="reasons" /></label>
      <datalist id="reasons">{options("reason")}</datalist>
    </form>
  );
}

export function ReviewView({ route }) {
  const { query } = route;
  const given = Object.fromEntries(["state", "stage", "reason", "item_id"].map((name) => [name, query.get(name) || ""]));
  const { ended } = useDecisions();
  const me = useAnswer("me", (signal) => get("/v1/me", signal));
  const may = mayReview(me.data);
  const filters = JSON.stringify(given);
  const { data, fault, busy } = useAnswer(`${filters} ${ended}`, (signal) => get(url("/v1/review", { ...given, limit: 50 }), signal));
  const [more, setMore] = useState({ of: null, entries: [], cursor: undefined, fault: null });
  const [decided, setDecided] = useState(new Set());
  const [chosen, setChosen] = useState(null);
  const [action, setAction] = useState(null);
  const [on, setOn] = useState(localStorage.getItem("coldstart.keys") !== "off");
  const list = useRef(null);
  const mine = more.of === data ? more : { entries: [], cursor: undefined };
  const entries = [...(data?.entries || []), ...mine.entries].filter((entry) => !decided.has(keyOf(entry)));
  const cursor = mine.cursor === undefined ? data?.next_cursor : mine.cursor;
  const place = Math.max(0, entries.findIndex((entry) => keyOf(entry) === chosen));
  const entry = entries[place];
  useEffect(() => setDecided(new Set()), [data]);
  const choose = (to) => {
    const next = entries[Math.min(entries.length - 1, Math.max(0, to))];
    if (!next) return;
    setChosen(keyOf(next));
    setAction(null);
    list.current?.querySelectorAll("button.pick")[entries.indexOf(next)]?.scrollIntoView({ block: "nearest" });
  };
  const like = entry
    ? entries.filter((one) => one !== entry && one.state === entry.state && one.stage === entry.stage && one.reason === entry.reason && one.actions.includes(action)).slice(0, MOST - 1)
    : [];
  const sent = (done, others = []) => {
    setAction(null);
    requestAnimationFrame(() => list.current?.querySelector("[aria-current]")?.focus()); // the form that had it is gone
    if (!done) return;
    const gone = new Set([keyOf(entry), ...others.map(keyOf)]);
    const next = entries.slice(place).find((one) => !gone.has(keyOf(one))) || entries.find((one) => !gone.has(keyOf(one)));
    setDecided(new Set([...decided, ...gone]));
    setChosen(next ? keyOf(next) : null);
  };
  const load = () =>
    get(url("/v1/review", { ...given, limit: 50, cursor })).then(
      (page) => setMore({ of: data, entries: [...mine.entries, ...page.entries], cursor: page.next_cursor }),
      (problem) => setMore({ ...mine, of: data, cursor, fault: problem }),
    );
  useEffect(() => {
    const key = (event) => {
      if (!on || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog, video, audio")) return;
      const act = { a: "approve", r: "reject", c: "correct" }[event.key];
      if (event.key === "j") choose(place + 1);
      else if (event.key === "k") choose(place - 1);
      else if (event.key === "u" && may) undoLast();
      else if (act && may && entry?.actions.includes(act)) setAction(act);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  return (
    <>
      <h1>Review</h1>
      <Filters given={given} counts={data?.counts} entries={entries} />
      {given.item_id ? (
        <p class="by">
          Of <a href={link("item", given.item_id)} dir="auto">{shown(given.item_id)}</a> <a href={link("review", "", { ...given, item_id: "" })}>Show all</a>
        </p>
      ) : null}
      {me.data && !may ? <p class="quiet">{me.data.writable ? "This token may read, and not decide: that takes one with the scope review." : "This server only reads: decisions are made with `coldstart review`."}</p> : null}
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {data ? (
        <>
          <Notes notes={data.notes} />
          {entries.length ? (
            <div class="queue">
              <section aria-label="Queue" aria-busy={busy}>
                <ol class="entries" ref={list}>
                  {entries.map((one, at) => (
                    <li key={keyOf(one)} class={one.state === "claim" && at && entries[at - 1].state !== "claim" ? "claims" : undefined}>
                      <button type="button" class="pick" aria-current={at === place ? "true" : undefined} onClick={() => choose(at)}>
                        <Text class="title">{titleOf(one)}</Text>
                        <span>
                          <span class={`mark ${one.state}`}>{one.state}</span> <span class="quiet">{one.claim ? `${words(one.claim)} “${shown(one.value ?? "")}”: ` : ""}{reasonOf(one)}</span>
                        </span>
                      </button>
                    </li>
                  ))}
                </ol>
                <FaultNote fault={mine.fault} />
                {cursor ? <button type="button" class="more" onClick={load}>More</button> : null}
                <Shortcuts
                  on={on}
                  setOn={(value) => {
                    localStorage.setItem("coldstart.keys", value ? "on" : "off");
                    setOn(value);
                  }}
                />
              </section>
              <Detail key={keyOf(entry)} entry={entry} like={like} may={may} action={action} setAction={setAction} sent={sent} />
            </div>
          ) : (
            <p>Nothing waits for a review here.</p>
          )}
        </>
      ) : null}
      <UnderWay />
      <section aria-labelledby="logtitle">
        <h2 id="logtitle">Decisions</h2>
        <DecisionLog item={given.item_id} may={may} />
      </section>
    </>
  );
}
