// Reports: what was evaluated, recall of the indexes and counts of the items by publication.
import { get, url, useAnswer } from "./api.js";
import { Busy, count, FaultNote, Notes, number, Section, shown, Table, Text, Time, when, words } from "./parts.jsx";
import { go } from "./route.js";

const absent = (fault) => (fault.status === 404 ? { none: true } : Promise.reject(fault));
const amount = (value, share) => (value === null || value === undefined ? "–" : share ? `${(100 * value).toFixed(1)} %` : number(value, 3));

function Interval({ of, share }) {
  if (!of) return "–";
  return (
    <>
      {amount(of.value, share)} {of.low === null || of.low === undefined ? null : <span class="quiet">{amount(of.low, share)} to {amount(of.high, share)}</span>}
    </>
  );
}

function Evaluation({ one, open }) {
  return (
    <details open={open}>
      <summary>
        {when(one.made_at)} UTC, of {one.publication || "no publication"} {one.is_current ? <span class="mark">current</span> : null} {one.quick ? <span class="mark">quick</span> : null}
      </summary>
      <Table
        label={`Evaluation of ${when(one.made_at)}`}
        wide={[2, 3, 4]}
        head={["Capability", "Measure", "Value, 95 % interval", "Baseline", "Verdict", "n", "In words"]}
        rows={one.rows.map((row) => [
          words(row.capability),
          row.measure,
          <Interval of={row.value} share={row.is_share} />,
          row.baseline ? <><Interval of={row.baseline.interval} share={row.is_share} /> <span class="quiet">{row.baseline.name}</span></> : "",
          <><b>{shown(one.verdicts?.[row.verdict] || words(row.verdict))}</b> <Text class="quiet">{row.why}</Text></>,
          row.n === null || row.n === undefined ? "" : count(row.n),
          <Text>{row.sentence || row.statement || row.question}</Text>,
        ])}
      />
    </details>
  );
}

export function EvaluationsSection() {
  const answer = useAnswer("evaluations", (signal) => get("/v1/evaluations?limit=10", signal).catch(absent));
  return (
    <Section title="Evaluations" answer={answer}>
      {(data) =>
        data.evaluations?.length ? (
          <>
            <Notes notes={data.notes} />
            {data.evaluations.map((one, place) => <Evaluation key={one.made_at} one={one} open={!place} />)}
          </>
        ) : (
          <p class="quiet">Nothing has been evaluated yet: `coldstart evaluate all` does it, and its results are shown here.</p>
        )
      }
    </Section>
  );
}

export function PublicationsSection() {
  const answer = useAnswer("publications", (signal) => get("/v1/publications", signal));
  return (
    <Section title="Publications" answer={answer}>
      {(data) => (
        <Table
          label="Publications"
          head={["Publication", "At (UTC)", "Items", "Space", "Index", "Vectors", "Recall", "With filters"]}
          rows={data.publications.flatMap((one) => (one.spaces.length ? one.spaces : [{}]).map((space, place) => [
            place ? "" : one.tag, place ? "" : <Time at={one.published_at} />, place ? "" : count(one.rows), space.space,
            <>{space.index_type} {space.ok === false ? <span class="mark failed">below its floor</span> : null}</>,
            space.rows === undefined ? "" : count(space.rows),
            <>{number(space.recall, 3)} {space.recall === null || space.recall === undefined ? null : <meter min="0" max="1" value={space.recall} aria-label={`recall of ${space.space}`} />}</>,
            number(space.recall_filtered, 3),
          ]))}
        />
      )}
    </Section>
  );
}

/** Half the sum of the differences of the shares: 0 for the same mixture, 1 for two that share nothing. */
export function moved(before, after) {
  const [of, to] = [before, after].map((one) => Object.values(one).reduce((sum, n) => sum + n, 0));
  if (!of || !to) return null;
  let all = 0;
  let most = ["", 0];
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const step = (after[name] || 0) / to - (before[name] || 0) / of;
    all += Math.abs(step) / 2;
    if (Math.abs(step) > Math.abs(most[1])) most = [name, step];
  }
  return { all, most };
}

function Moved({ before, after }) {
  const found = before ? moved(before, after) : null;
  if (!found) return "";
  const [name, step] = found.most;
  return (
    <>
      {(100 * found.all).toFixed(1)} % {found.all ? <span class="quiet">most: <Text>{name}</Text> {step > 0 ? "+" : "−"}{(100 * Math.abs(step)).toFixed(1)}</span> : null}
    </>
  );
}

const listed = (counts, most = 5) =>
  Object.entries(counts || {}).sort((a, b) => b[1] - a[1]).slice(0, most).map(([name, n]) => `${shown(name) || "without"} ${count(n)}`).join(", ");

export function CountsSection({ query }) {
  const by = query.get("by") === "week" ? "week" : "publication";
  const answer = useAnswer(`counts ${by}`, (signal) => get(url("/v1/counts", { by }), signal).catch(absent));
  return (
    <Section title="Counts" answer={answer}>
      {(data) =>
        data.none ? (
          <p class="quiet">This server does not count items by publication.</p>
        ) : (
          <>
            <form class="row filters" onSubmit={(event) => event.preventDefault()} aria-label="Counts by">
              <label>
                By
                <select value={by} onChange={(event) => go("workspace", "counts", { by: event.currentTarget.value })}>
                  <option value="publication">publication</option>
                  <option value="week">week in which items were made</option>
                </select>
              </label>
            </form>
            <Notes notes={data.notes} />
            <p class="quiet">How far the mixture of categories moved from the row before: 0 % is the same, 100 % shares nothing.</p>
            <Table
              label={`Counts by ${by}`}
              wide={[3, 4]}
              head={[by === "week" ? "Week" : "Publication", "Items", "Moved", "Kinds", "Categories", "Languages", "Without text", "Without media", "Copies"]}
              rows={data.rows.map((row, place) => [row, data.rows[place - 1]]).reverse().map(([row, before]) => [
                <>{row.name} <span class="quiet">{by === "week" ? null : <Time at={row.at} />}</span></>, count(row.items), <Moved before={before?.categories} after={row.categories} />,
                listed(row.kinds), <Text>{listed(row.categories)}</Text>, listed(row.languages), count(row.without_text || 0), count(row.without_media || 0), count(row.copies || 0),
              ])}
            />
          </>
        )
      }
    </Section>
  );
}
