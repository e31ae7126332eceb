// One item: media with its timeline, description with evidence, copies, audience, neighbours, stages and decisions.
import { useEffect, useState } from "preact/hooks";
import { get, itemPath, url, useAnswer, useMedium } from "./api.js";
import { DecisionForm, DecisionLog, mayReview, UnderWay, useDecisions, VERBS } from "./decide.jsx";
import { Busy, Card, Cards, clock, count, FaultNote, Notes, number, Picture, Player, shown, Table, Text, titleOf, when, words } from "./parts.jsx";
import { link } from "./route.js";
import { Spaces } from "./search.jsx";

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

const FRAMES = 16;

/** Frames that stand for the shots, taken from the video by the browser; each jumps the player. */
function Frames({ medium, times, onJump }) {
  const { src } = useMedium(medium.href);
  const [taken, setTaken] = useState([]);
  const seconds = times.filter((_, place) => place % Math.ceil(times.length / FRAMES) === 0);
  useEffect(() => {
    if (!src) return undefined;
    const video = document.createElement("video");
    Object.assign(video, { muted: true, preload: "auto", src });
    const canvas = document.createElement("canvas");
    const found = [];
    const seek = () => {
      if (found.length < seconds.length) video.currentTime = seconds[found.length];
    };
    video.addEventListener("loadeddata", seek, { once: true });
    video.addEventListener("seeked", () => {
      [canvas.width, canvas.height] = [Math.round((120 * video.videoWidth) / video.videoHeight), 120];
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      found.push(canvas.toDataURL("image/jpeg", 0.8));
      setTaken([...found]);
      seek();
    });
    return () => {
      video.removeAttribute("src");
      video.load();
    };
  }, [src]);
  return taken.length ? (
    <ol class="frames" aria-label="Frames">
      {taken.map((picture, place) => (
        <li key={seconds[place]}>
          <button type="button" class="plain" onClick={() => onJump(seconds[place])} aria-label={`Jump to the frame at ${clock(seconds[place])}`}>
            <img src={picture} alt="" />
            <span aria-hidden="true">{clock(seconds[place])}</span>
          </button>
        </li>
      ))}
    </ol>
  ) : null;
}

/** Decisions on claims of an item: `approved` and `rejected`, lists of name and value; the record has them as JSON. */
function decidedOn(text) {
  try {
    return Object.entries(typeof text === "string" ? JSON.parse(text) : text || {});
  } catch {
    return [];
  }
}

/** Button of a decision on a claim; its form takes the place of the button. */
function ClaimDecision({ item, one, action }) {
  const [open, setOpen] = useState(null);
  const focus = (button) => button && open === false && button.focus();
  const decided = item.decided.find(([, claims]) => claims.some(([name, value]) => name === one.claim && value === one.value));
  if (decided) return <span class="mark">{decided[0]}</span>;
  return open ? (
    <DecisionForm target={{ ...item, claim: one.claim, value: one.value }} action={action} onEnd={() => setOpen(false)} />
  ) : (
    <button ref={focus} type="button" class="plain" aria-label={`${VERBS[action]} the claim: ${shown(one.value)}`} onClick={() => setOpen(true)}>
      {VERBS[action]}
    </button>
  );
}

function Described({ described, item, may }) {
  if (!described?.status) return null;
  const decide = (one, action) => (may ? [<ClaimDecision item={item} one={one} action={action} />] : []);
  const last = may ? ["Decide"] : [];
  return (
    <section aria-labelledby="describedtitle">
      <h2 id="describedtitle">
        Description <span class="mark">{words(described.status)}</span>
      </h2>
      <Text as="p">{described.summary}</Text>
      {described.grounds?.length ? (
        <Table
          label="Claims and their evidence"
          wide={[1, 2]}
          head={["Claim", "Value", "Evidence", ...last]}
          rows={described.grounds.map((one) => [words(one.claim), <Text>{one.value}</Text>, <><b>{words(one.ground)}</b> <Text>{one.detail}</Text></>, ...decide(one, "reject")])}
        />
      ) : null}
      {described.cut?.length ? (
        <>
          <h3>Removed claims</h3>
          <Table
            label="Removed claims"
            wide={[1, 2]}
            head={["Claim", "Value", "Why", ...last]}
            rows={described.cut.map((one) => [words(one.claim), <Text as="del">{one.value}</Text>, <><b>{words(one.reason)}</b> <Text>{one.detail}</Text></>, ...decide(one, "approve")])}
          />
        </>
      ) : null}
    </section>
  );
}

/** What is known of a link between copies: how near, how it was changed, which seconds. */
function linked(one) {
  return [
    one.score === null || one.score === undefined ? "" : `similarity ${number(one.score)}`,
    one.changes, one.mirrored ? "mirrored" : "", one.speed && Math.abs(one.speed - 1) > 0.01 ? `speed ${number(one.speed)}` : "",
    ...(one.matches || []).slice(0, 3).map((part) => `${clock(part.start_s)} to ${clock(part.end_s)} is ${clock(part.other_start_s)} to ${clock(part.other_end_s)} there`),
    one.found_by ? `found by ${words(one.found_by)}` : "",
  ].filter(Boolean);
}

function LinkedItem({ one, name }) {
  const { data } = useAnswer(one.item_id, (signal) => get(itemPath(one.item_id, "/report"), signal));
  return (
    <li class="card">
      <a class="cardlink" href={link("item", one.item_id)}>
        {data ? <Picture media={data.media} /> : <span class="nopicture">…</span>}
        <span class="quiet">{name}</span>
        <Text class="title">{titleOf(one)}</Text>
      </a>
      <Text class="quiet">{linked(one).join(", ")}</Text>
    </li>
  );
}

function CopiesSection({ original, copies }) {
  const [many, setMany] = useState(12);
  if (!original && !copies.length) return null;
  return (
    <section aria-labelledby="copiestitle">
      <h2 id="copiestitle">Copies</h2>
      <ol class="cards" aria-label="Copies">
        {original ? <LinkedItem one={original} name="Its original" /> : null}
        {copies.slice(0, many).map((one) => <LinkedItem key={one.item_id} one={one} name="Copy" />)}
      </ol>
      {copies.length > many ? <button type="button" class="more" onClick={() => setMany(many + 48)}>More copies</button> : null}
    </section>
  );
}

/** Users are asked for only where there are any. */
function AudienceSection({ id }) {
  const status = useAnswer("status", (signal) => get("/v1/status", signal));
  if (!status.data) return <Busy busy={status.busy} />;
  if (status.data.interactions) return <Audience id={id} />;
  return (
    <section aria-labelledby="audiencetitle">
      <h2 id="audiencetitle">Audience</h2>
      <p class="quiet">This workspace has no interactions, and so no users.</p>
    </section>
  );
}

function Audience({ id }) {
  const [by, setBy] = useState("score");
  const { data, fault, busy } = useAnswer(`${id} ${by}`, (signal) => get(url(itemPath(id, "/audience"), { limit: 10, by }), signal));
  return (
    <section aria-labelledby="audiencetitle" aria-busy={busy}>
      <h2 id="audiencetitle">Audience</h2>
      <label>
        Users by{" "}
        <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
          <option value="score">score</option>
          <option value="lift">how far above their mean</option>
        </select>
      </label>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {data ? (
        data.people.length ? (
          <>
            <p class="quiet">Best {data.people.length} of {count(data.users)} users; {count(data.met)} know it already.</p>
            <Notes notes={data.notes} />
            <Table
              label="Users most likely to like it"
              head={["Place", "User", "Score", "Why"]}
              rows={data.people.map((one) => [one.rank, <a href={link("recommend", "", { user: one.user_id })} dir="auto">{shown(one.user_id)}</a>, number(one.score), <Text>{one.reason}</Text>])}
            />
          </>
        ) : (
          <p class="quiet">This workspace has no users: it takes interactions to have an audience.</p>
        )
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

const HIDDEN = new Set(["item_id", "title", "row_key", "source_key", "media", "description", "bad_media", "uncorrected", "claim_decisions"]);
const TIMES = new Set(["created_at", "ingested_at"]);

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
          <Text as="dd">{TIMES.has(name) ? `${when(value)} UTC` : text(value)}</Text>
        </div>
      ))}
    </dl>
  );
}

function Decisions({ item, record, may }) {
  const [action, setAction] = useState(undefined);
  const focus = (button) => button && action === null && button.focus(); // once a form is closed
  return (
    <section aria-labelledby="decisionstitle">
      <h2 id="decisionstitle">Decisions</h2>
      {may ? (
        action ? (
          <DecisionForm key={action} target={item} record={record} action={action} onEnd={() => setAction(null)} />
        ) : (
          <p class="decisions">
            <button ref={focus} type="button" class="second" onClick={() => setAction("reject")}>Reject the item</button>
            <button type="button" class="second" onClick={() => setAction("correct")}>Correct a field</button>
            <a href={link("review", "", { item_id: item.item_id })}>What waits of it</a>
          </p>
        )
      ) : null}
      <UnderWay item={item.item_id} />
      <DecisionLog item={item.item_id} may={may} />
    </section>
  );
}

function Safety({ safety }) {
  const findings = safety?.findings || [];
  return findings.length ? (
    <>
      <h2>Safety</h2>
      <ul class="notes">
        {findings.map((one, place) => <Text as="li" key={place}>{typeof one === "string" ? one : Object.values(one).filter((value) => value !== null && typeof value !== "object").join(" ")}</Text>)}
      </ul>
    </>
  ) : null;
}

export function ItemView({ route }) {
  const { id } = route;
  const may = mayReview(useAnswer("me", (signal) => get("/v1/me", signal)).data);
  const { ended } = useDecisions();
  const { data, fault, busy } = useAnswer(`${id} ${ended}`, (signal) => get(itemPath(id, "/report"), signal));
  const second = Number(route.query.get("t"));
  const [at, setAt] = useState(second > 0 ? { second } : null);
  const [now, setNow] = useState(-1);
  if (!data) return <><h1 dir="auto">{shown(id)}</h1><FaultNote fault={fault} /><Busy busy={busy} /></>;
  const { report, media } = data;
  const item = { ...(report.item || {}), item_id: id };
  const target = { item_id: id, title: titleOf(item), decided: decidedOn(item.claim_decisions) };
  const served = (report.stages || []).at(-1)?.state === "fresh";
  const playable = media.findIndex((one) => one.role !== "image");
  return (
    <article aria-busy={busy}>
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
          <Safety safety={report.safety} />
          <Decisions item={target} record={item} may={may} />
        </div>
      </div>
      {playable >= 0 && report.frame_times_s?.length ? <Frames medium={media[playable]} times={report.frame_times_s} onJump={(to) => setAt({ second: to })} /> : null}
      <Timeline parts={report.timeline || []} duration={report.duration_s} now={now} onJump={(to) => setAt({ second: to })} />
      <Described described={report.described} item={target} may={may} />
      <CopiesSection original={report.duplicate_of} copies={report.copies || []} />
      {served ? <Neighbours id={id} /> : null}
      {served ? <AudienceSection id={id} /> : null}
      <section aria-labelledby="stagestitle">
        <h2 id="stagestitle">Stages</h2>
        <Table
          label="State in every stage"
          head={["Stage", "State", "Why"]}
          rows={(report.stages || []).map((one) => [one.stage, <span class={`mark ${one.state}`}>{one.state}</span>, one.reason || one.detail ? <Text>{[words(one.reason), one.detail].filter(Boolean).join(": ")}</Text> : null])}
        />
      </section>
    </article>
  );
}
