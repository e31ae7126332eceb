// One item: media with its timeline, description with evidence, copies, neighbours, state in every stage.
import { useState } from "preact/hooks";
import { get, itemPath, url, useAnswer } from "./api.js";
import { Busy, Card, Cards, clock, FaultNote, number, Player, shown, Table, Text, titleOf, words } from "./parts.jsx";
import { link } from "./route.js";
import { Copies, Spaces } from "./search.jsx";

const LANES = [
  ["shot", "Shots"],
  ["speech", "Speech"],
  ["screen", "Text on screen"],
];

/** Lanes of shots, speech and text on screen; each part jumps the player to its second. */
export function Timeline({ parts, duration, now, onJump }) {
  const end = Math.max(duration || 0, ...parts.map((part) => part.end_s || part.start_s), 0.1);
  const lanes = LANES.map(([source, name]) => [name, parts.filter((part) => part.source === source)]).filter(([, own]) => own.length);
  const said = parts.filter((part) => part.text);
  if (!lanes.length) return null;
  return (
    <section aria-labelledby="timelinetitle">
      <h2 id="timelinetitle">Timeline</h2>
      {lanes.map(([name, own]) => (
        <div class="lane" key={name}>
          <span class="lanename">{name}</span>
          <div class="track">
            {own.map((part, place) => {
              const label = `${name} ${clock(part.start_s)} to ${clock(part.end_s)}${part.text ? `: ${part.text}` : ""}`;
              return (
                <button
                  type="button"
                  key={place}
                  class={now >= part.start_s && now < part.end_s ? "part now" : "part"}
                  style={{ left: `${(100 * part.start_s) / end}%`, width: `${(100 * (part.end_s - part.start_s)) / end}%` }}
                  title={shown(label)}
                  aria-label={shown(label)}
                  onClick={() => onJump(part.start_s)}
                />
              );
            })}
          </div>
        </div>
      ))}
      {said.length ? (
        <ol class="lines">
          {said.map((part, place) => (
            <li key={place}>
              <button type="button" class="plain" onClick={() => onJump(part.start_s)} aria-label={`Jump to ${clock(part.start_s)}`}>
                {clock(part.start_s)}
              </button>{" "}
              <span class="quiet">{part.source === "screen" ? "on screen" : part.source}</span> <Text>{part.text}</Text>
            </li>
          ))}
        </ol>
      ) : null}
    </section>
  );
}

function Described({ described }) {
  if (!described) return null;
  return (
    <section aria-labelledby="describedtitle">
      <h2 id="describedtitle">
        Description <span class="mark">{words(described.status)}</span>
      </h2>
      <Text as="p">{described.summary}</Text>
      {described.grounds?.length ? (
        <Table
          label="Claims and their evidence"
          head={["Claim", "Value", "Evidence"]}
          rows={described.grounds.map((one) => [words(one.claim), <Text>{one.value}</Text>, <><b>{words(one.ground)}</b> <Text>{one.detail}</Text></>])}
        />
      ) : null}
      {described.cut?.length ? (
        <>
          <h3>Removed claims</h3>
          <Table
            label="Removed claims"
            head={["Claim", "Value", "Why"]}
            rows={described.cut.map((one) => [words(one.claim), <Text as="del">{one.value}</Text>, <><b>{words(one.reason)}</b> <Text>{one.detail}</Text></>])}
          />
        </>
      ) : null}
    </section>
  );
}

function Neighbours({ id }) {
  const [space, setSpace] = useState("");
  const status = useAnswer("status", (signal) => get("/v1/status", signal));
  const { data, fault, busy } = useAnswer(`${id} ${space}`, (signal) => get(url(itemPath(id, "/similar"), { space, limit: 8 }), signal));
  return (
    <section aria-labelledby="neartitle">
      <h2 id="neartitle">Neighbours</h2>
      <label>
        Space{" "}
        <select value={space} onChange={(event) => setSpace(event.currentTarget.value)}>
          <option value="">all that fit</option>
          {(status.data?.spaces || []).map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      <Cards label="Neighbours">
        {(data?.hits || []).map((hit) => (
          <Card key={hit.item_id} item={hit}>
            <Spaces hit={hit} />
          </Card>
        ))}
      </Cards>
    </section>
  );
}

const HIDDEN = new Set(["item_id", "title", "row_key", "source_key", "media", "description"]);

function Fields({ item }) {
  const given = Object.entries(item).filter(
    ([name, value]) => !HIDDEN.has(name) && value !== null && value !== "" && !(typeof value === "object" && !Object.keys(value).length),
  );
  const text = (value) =>
    Array.isArray(value) ? value.join(", ") : typeof value === "object" ? Object.entries(value).map(([key, one]) => `${key}: ${one}`).join(", ") : value;
  return (
    <dl class="fields">
      {given.map(([name, value]) => (
        <div key={name}>
          <dt>{words(name)}</dt>
          <Text as="dd">{text(value)}</Text>
        </div>
      ))}
    </dl>
  );
}

export function ItemView({ route }) {
  const { id } = route;
  const { data, fault, busy } = useAnswer(id, (signal) => get(itemPath(id, "/report"), signal));
  const second = Number(route.query.get("t"));
  const [at, setAt] = useState(second > 0 ? { second } : null);
  const [now, setNow] = useState(-1);
  if (!data) return fault ? <FaultNote fault={fault} /> : <Busy busy={busy} />;
  const { report, media } = data;
  const item = { ...(report.item || {}), item_id: id };
  const playable = media.findIndex((one) => one.role !== "image");
  return (
    <article>
      <Text as="h1">{titleOf(item)}</Text>
      <p class="quiet">
        <Text>{id}</Text>
        {" · "}
        <a href={link("search", "", { item: id })}>More like this</a>
        {item.kind === "video" ? <>{" · "}<a href={link("match", id)}>Products in it</a></> : null}
        {" · "}
        <a href={link("recommend", "", { history: id })}>Recommend from it</a>
      </p>
      <div class="columns">
        <div class="media">
          {media.length ? null : <p class="quiet">It has no media.</p>}
          {media.map((medium, place) => (
            <Player key={medium.href} medium={medium} label={`${titleOf(item)}, medium ${place + 1}`} at={place === playable ? at : null} onTime={place === playable ? setNow : undefined} />
          ))}
        </div>
        <div>
          {item.description ? <Text as="p">{item.description}</Text> : null}
          <Fields item={item} />
          {report.duplicate_of ? (
            <p>
              A copy of <a href={link("item", report.duplicate_of)} dir="auto">{shown(report.duplicate_of)}</a>
            </p>
          ) : null}
          <Copies ids={(report.copies || []).map((one) => (typeof one === "string" ? one : one.item_id))} />
          {report.safety?.findings?.length ? (
            <ul class="notes">
              {report.safety.findings.map((one, place) => <Text as="li" key={place}>{typeof one === "string" ? one : Object.values(one).join(" ")}</Text>)}
            </ul>
          ) : null}
        </div>
      </div>
      <Timeline parts={report.timeline || []} duration={report.duration_s} now={now} onJump={(to) => setAt({ second: to })} />
      <Described described={report.described} />
      <Neighbours id={id} />
      <section aria-labelledby="stagestitle">
        <h2 id="stagestitle">Stages</h2>
        <Table
          label="State in every stage"
          head={["Stage", "State", "Why"]}
          rows={(report.stages || []).map((one) => [one.stage, <span class={`mark ${one.state}`}>{one.state}</span>, <Text>{[words(one.reason), one.detail].filter(Boolean).join(": ")}</Text>])}
        />
      </section>
    </article>
  );
}
