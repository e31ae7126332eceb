// State of the workspace: counts of stages, ledger, reports, publications, runs and jobs, one at a time.
import { get, url, useAnswer } from "./api.js";
import { count, number, Section, shown, Table, Text, Time, when, words } from "./parts.jsx";
import { CountsSection, EvaluationsSection, PublicationsSection } from "./reports.jsx";
import { go, link } from "./route.js";

const STATES = ["fresh", "failed", "filtered", "duplicate", "pending"];

function LedgerSection({ query }) {
  const given = { state: query.get("state") || "", stage: query.get("stage") || "", reason: query.get("reason") || "", cursor: query.get("cursor") || "" };
  const answer = useAnswer(JSON.stringify(given), (signal) => get(url("/v1/ledger", { ...given, limit: 25 }), signal));
  const set = (event) => {
    const data = new FormData(event.currentTarget.form);
    go("workspace", "ledger", { state: data.get("state"), stage: data.get("stage").trim(), reason: data.get("reason").trim() });
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
          <p class="quiet"><span role="status">{count(data.total)} entries</span> · <a href={link("review", "", { state: given.state, stage: given.stage, reason: given.reason })}>Review them</a></p>
          <Table
            label="Ledger"
            wide={[3]}
            head={["Item", "Stage", "State", "Why", "At"]}
            rows={data.entries.map((one) => [
              <a href={link("item", one.item_id)} dir="auto">{shown(one.item_id)}</a>,
              one.stage,
              <span class={`mark ${one.state}`}>{one.state}</span>,
              <><b>{one.words}</b> <Text>{one.detail}</Text></>,
              <Time at={one.at} />,
            ])}
          />
          {data.next_cursor ? <a class="more" href={link("workspace", "ledger", { ...given, cursor: data.next_cursor })}>Next page of the ledger</a> : null}
        </>
      )}
    </Section>
  );
}

function StagesSection() {
  const status = useAnswer("status", (signal) => get("/v1/status", signal));
  const ledgerStates = ["failed", "filtered", "duplicate"];
  return (
    <Section title="Stages" answer={status}>
      {(data) => (
        <>
          <p>{count(data.items)} items, {count(data.served)} served from {data.publication}; counted at {when(data.counted_at)} UTC</p>
          <Table
            label="Counts of each stage"
            head={["Stage", ...STATES, "Reasons"]}
            rows={data.stages.map((one) => [
              one.stage,
              ...STATES.map((state) => (one[state] && ledgerStates.includes(state) ? <a href={link("workspace", "ledger", { state, stage: one.stage })} aria-label={`${one[state]} ${state} in ${one.stage}`}>{count(one[state])}</a> : count(one[state]))),
              one.notes.length || one.fault || Object.keys(one.reasons).length ? <>{Object.entries(one.reasons).map(([reason, n]) => `${words(reason)} ${n}`).join(", ")} {one.notes.map((note) => <span class="quiet" key={note}> {shown(note)}</span>)} {one.fault ? <span class="fault">{shown(one.fault)}</span> : null}</> : null,
            ])}
          />
        </>
      )}
    </Section>
  );
}

function ImpressionsSection() {
  const answer = useAnswer("impressions", (signal) => get("/v1/impressions", signal));
  const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
  return (
    <Section title="Impressions" answer={answer}>
      {(data) => data.rows ? (
        <>
          <p>
            {count(data.rows)} showings on {count(data.days)} days to {count(data.users)} users, <Time at={data.first} /> to <Time at={data.last} /> UTC
          </p>
          <dl class="fields">
            <div><dt>Items</dt><dd>{count(data.items)} shown, {count(data.known_items)} of them of this workspace; {count(data.catalogue_items)} are served</dd></div>
            <div><dt>No outcome</dt><dd>{count(data.without_outcome)} showings ({share(data.without_outcome, data.rows)})</dd></div>
            <div><dt>Propensity</dt><dd>known of {share(data.with_propensity, data.rows)}</dd></div>
            {data.early || data.rejected ? <div><dt>Set apart</dt><dd>{count(data.early)} outcomes before their showing, {count(data.rejected)} rows rejected</dd></div> : null}
          </dl>
          <Table
            label="Outcomes of showings"
            head={["Outcome", "Stated", "Above 0", "Share"]}
            rows={Object.entries(data.outcomes).map(([name, one]) => [words(name), count(one.stated), count(one.above_zero), share(one.above_zero, one.stated)])}
          />
        </>
      ) : <p class="quiet">No impressions were logged.</p>}
    </Section>
  );
}

function RunsSection() {
  const runs = useAnswer("runs", (signal) => get("/v1/runs?limit=40", signal));
  return (
    <Section title="Runs" answer={runs}>
      {(data) => data.runs.length ? (
        <Table
          label="Runs of stages"
          head={["Stage", "Began (UTC)", "Seconds", "Done", "Lost", "Notes"]}
          rows={data.runs.map((one) => [one.stage, <Time at={one.started_at} />, number(one.seconds, 1), one.report.ran?.done ?? "", one.report.ran?.lost ?? "", (one.report.notes || []).map((note) => <div key={note}>{shown(note)}</div>)])}
        />
      ) : <p class="quiet">No runs.</p>}
    </Section>
  );
}

function Outcomes({ results }) {
  const named = results.filter((one) => one.item_id);
  return named.length ? (
    <details>
      <summary>{count(named.length)} {named.length === 1 ? "item" : "items"}</summary>
      <ul>
        {named.slice(0, 50).map((one, place) => (
          <li key={place}>
            <a href={link("item", one.item_id)} dir="auto">{shown(one.item_id)}</a> <span class={`mark ${one.state}`}>{words(one.state || one.action)}</span> <Text class="quiet">{[one.reason && words(one.reason), one.detail].filter(Boolean).join(": ")}</Text>
          </li>
        ))}
      </ul>
    </details>
  ) : null;
}

function JobsSection({ query }) {
  const state = query.get("state") || "";
  const cursor = query.get("cursor") || "";
  const jobs = useAnswer(`${state} ${cursor}`, (signal) => get(url("/v1/jobs", { state, cursor }), signal).catch((fault) => (fault.status === 404 ? { none: true } : Promise.reject(fault))));
  return (
    <Section title="Jobs" answer={jobs}>
      {(data) => data.none ? <p class="quiet">This server only reads: it takes in no items.</p> : (
        <>
          <form class="row filters" onSubmit={(event) => event.preventDefault()} aria-label="Jobs in">
            <label>
              State
              <select value={state} onChange={(event) => go("workspace", "jobs", { state: event.currentTarget.value })}>
                <option value="">all</option>
                {Object.entries(data.counts).map(([name, n]) => <option key={name} value={name}>{`${name} (${count(n)})`}</option>)}
              </select>
            </label>
          </form>
          {data.jobs.length ? (
            <Table
              label="Jobs"
              head={["Kind", "State", "Rows", "Submitted (UTC)", "Seconds", "Publication", "What came of it"]}
              rows={data.jobs.map((one) => [
                words(one.kind), <span class={`mark ${one.state}`}>{one.state}</span>, count(one.rows), <Time at={one.submitted_at} />,
                one.finished_at ? number((Date.parse(one.finished_at) - Date.parse(one.submitted_at)) / 1000, 1) : "", one.publication,
                <><Text>{one.detail}</Text> <Outcomes results={one.results || []} /> <span class="quiet">{one.job_id}</span></>,
              ])}
            />
          ) : <p class="quiet">No jobs.</p>}
          {data.next_cursor ? <a class="more" href={link("workspace", "jobs", { state, cursor: data.next_cursor })}>Older jobs</a> : null}
        </>
      )}
    </Section>
  );
}

const SECTIONS = {
  stages: ["Stages", StagesSection],
  ledger: ["Ledger", LedgerSection],
  evaluations: ["Evaluations", EvaluationsSection],
  publications: ["Index recall", PublicationsSection],
  counts: ["Counts", CountsSection],
  impressions: ["Impressions", ImpressionsSection],
  runs: ["Runs", RunsSection],
  jobs: ["Jobs", JobsSection],
};

export function WorkspaceView({ route }) {
  const name = route.id in SECTIONS ? route.id : "stages";
  const [, View] = SECTIONS[name];
  return (
    <>
      <h1>Workspace</h1>
      <nav aria-label="Parts of the workspace" class="sub">
        {Object.entries(SECTIONS).map(([one, [label]]) => (
          <a key={one} href={link("workspace", one)} aria-current={one === name ? "page" : undefined}>{label}</a>
        ))}
      </nav>
      <View query={route.query} />
    </>
  );
}
