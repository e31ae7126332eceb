// State of the workspace: counts of stages, ledger, runs, publications and jobs.
import { get, url, useAnswer } from "./api.js";
import { Busy, count, FaultNote, number, shown, Table, Text, when, words } from "./parts.jsx";
import { go, link } from "./route.js";

const STATES = ["fresh", "failed", "filtered", "duplicate", "pending"];

function Section({ title, answer, children }) {
  const id = `title-${title.toLowerCase()}`;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <FaultNote fault={answer.fault} />
      <Busy busy={answer.busy && !answer.data} />
      {answer.data ? children(answer.data) : null}
    </section>
  );
}

function LedgerSection({ query }) {
  const given = { state: query.get("state") || "", stage: query.get("stage") || "", reason: query.get("reason") || "", cursor: query.get("cursor") || "" };
  const answer = useAnswer(JSON.stringify(given), (signal) => get(url("/v1/ledger", { ...given, limit: 25 }), signal));
  const set = (event) => {
    const data = new FormData(event.currentTarget.form);
    go("workspace", "", { state: data.get("state"), stage: data.get("stage").trim(), reason: data.get("reason").trim() });
  };
  return (
    <Section title="Ledger" answer={answer}>
      {(data) => (
        <>
          <form class="row filters" onSubmit={(event) => event.preventDefault()}>
            <label>
              State
              <select name="state" value={given.state} onChange={set}>
                <option value="">all</option>
                {["failed", "filtered", "duplicate"].map((one) => <option key={one}>{one}</option>)}
              </select>
            </label>
            <label>Stage <input name="stage" defaultValue={given.stage} key={`s${given.stage}`} onChange={set} /></label>
            <label>Reason <input name="reason" defaultValue={given.reason} key={`r${given.reason}`} onChange={set} /></label>
          </form>
          <p class="quiet" role="status">{count(data.total)} entries</p>
          <Table
            label="Ledger"
            head={["Item", "Stage", "State", "Why", "At"]}
            rows={data.entries.map((one) => [
              <a href={link("item", one.item_id)} dir="auto">{shown(one.item_id)}</a>,
              one.stage,
              <span class={`mark ${one.state}`}>{one.state}</span>,
              <><b>{one.words}</b> <Text>{one.detail}</Text></>,
              when(one.at),
            ])}
          />
          {data.next_cursor ? <a class="more" href={link("workspace", "", { ...given, cursor: data.next_cursor })}>Next page of the ledger</a> : null}
        </>
      )}
    </Section>
  );
}

export function WorkspaceView({ route }) {
  const status = useAnswer("status", (signal) => get("/v1/status", signal));
  const runs = useAnswer("runs", (signal) => get("/v1/runs?limit=20", signal));
  const publications = useAnswer("publications", (signal) => get("/v1/publications", signal));
  const jobs = useAnswer("jobs", (signal) => get("/v1/jobs", signal).catch((fault) => (fault.status === 404 ? { none: true } : Promise.reject(fault))));
  return (
    <>
      <h1>Workspace</h1>
      <Section title="Stages" answer={status}>
        {(data) => (
          <>
            <p>{count(data.items)} items, {count(data.served)} served from {data.publication}; counted at {when(data.counted_at)} UTC</p>
            <Table
              label="Counts of each stage"
              head={["Stage", ...STATES, "Reasons"]}
              rows={data.stages.map((one) => [
                one.stage,
                ...STATES.map((state) => (one[state] && ["failed", "filtered", "duplicate"].includes(state) ? <a href={link("workspace", "", { state, stage: one.stage })} aria-label={`${one[state]} ${state} in ${one.stage}`}>{count(one[state])}</a> : count(one[state]))),
                <>{Object.entries(one.reasons).map(([reason, n]) => `${words(reason)} ${n}`).join(", ")} {one.notes.map((note) => <span class="quiet" key={note}> {shown(note)}</span>)} {one.fault ? <span class="fault">{shown(one.fault)}</span> : null}</>,
              ])}
            />
          </>
        )}
      </Section>
      <LedgerSection query={route.query} />
      <Section title="Publications" answer={publications}>
        {(data) => (
          <Table
            label="Publications"
            head={["Publication", "At", "Items", "Space", "Index", "Vectors", "Recall", "Recall with filters"]}
            rows={data.publications.flatMap((one) => (one.spaces.length ? one.spaces : [{}]).map((space, place) => [
              place ? "" : one.tag, place ? "" : when(one.published_at), place ? "" : count(one.rows), space.space,
              <>{space.index_type} {space.ok === false ? <span class="mark failed">below its floor</span> : null}</>,
              space.rows === undefined ? "" : count(space.rows), number(space.recall, 3), number(space.recall_filtered, 3),
            ]))}
          />
        )}
      </Section>
      <Section title="Runs" answer={runs}>
        {(data) => (
          <Table
            label="Runs of stages"
            head={["Stage", "Began", "Seconds", "Done", "Lost", "Notes"]}
            rows={data.runs.map((one) => [one.stage, when(one.started_at), number(one.seconds, 1), one.report.ran?.done ?? "", one.report.ran?.lost ?? "", (one.report.notes || []).map((note) => <div key={note}>{shown(note)}</div>)])}
          />
        )}
      </Section>
      <Section title="Jobs" answer={jobs}>
        {(data) => data.none ? <p class="quiet">This server only reads: it takes in no items.</p> : data.jobs.length ? (
          <Table label="Jobs" head={["Job", "Kind", "State", "Rows", "Submitted", "Detail"]} rows={data.jobs.map((one) => [one.job_id, one.kind, one.state, one.rows, when(one.submitted_at), <Text>{one.detail}</Text>])} />
        ) : <p class="quiet">No jobs.</p>}
      </Section>
    </>
  );
}
