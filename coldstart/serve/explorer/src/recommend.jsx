// Recommendations for a user or for chosen items: dials, ranker and reranker of the list, and what speaks for each item.
import { useState } from "preact/hooks";
import { get, itemPath, post, untilLoaded, url, useAnswer, useReadiness } from "./api.js";
import { Busy, Card, Cards, FaultNote, Notes, number, shown, Text, titleOf, words } from "./parts.jsx";
import { go, link } from "./route.js";

const DIALS = [
  ["cold_share", "Cold share", "least share of new items"],
  ["diversity", "Diversity", "0: nearest only; 1: as different as may be"],
  ["explore", "Exploration", "share of places drawn at random"],
];

const RANK = [["", "where it won"], ["on", "always"], ["off", "never"]];
const RERANK = [
  ["", "no"],
  ["auto", "where it is certified"],
  ["mmr", "by diversity (mmr)"],
  ["dpp", "by diversity (dpp)"],
  ["listwise", "by the fitted model of lists"],
  ["llm", "by a language model"],
];

function Choice({ name, label, options, value, onChange, help }) {
  return (
    <label title={help}>
      {label}{" "}
      <select name={name} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => <option key={key} value={key}>{text}</option>)}
      </select>
    </label>
  );
}

/** What ordered the list, and why or why not. */
function Order({ data, rank }) {
  const { ranked, rerank } = data;
  const off = rank === "off" ? "it is switched off" : "no ranker is fitted";
  return (
    <dl class="order">
      <dt>{ranked?.on ? "Ranked" : "Not ranked"}</dt>
      <dd dir="auto" title={ranked?.why}>{shown(ranked ? ranked.summary || ranked.why : off)}</dd>
      {rerank ? (
        <>
          <dt>{rerank.kind === "none" ? "Not reranked" : "Reranked"}</dt>
          <dd dir="auto">
            {rerank.kind === "none" ? shown(rerank.why || "none was asked for") : `by ${words(rerank.kind)}, in ${number(rerank.ms, 1)} ms`}
          </dd>
        </>
      ) : null}
    </dl>
  );
}

/** Probability of each outcome, or its score where it is not calibrated. */
function Chances({ p, calibrated }) {
  return (
    <ul class="chances" aria-label="Outcomes">
      {Object.entries(p).map(([event, value]) => (
        <li key={event} title={calibrated?.[event] ? "calibrated probability" : "score: not calibrated"}>
          <span class="event">{words(event)}{calibrated?.[event] ? "" : " (score)"}</span>
          <span class="bar" aria-hidden="true"><span style={{ width: `${100 * Math.min(1, Math.max(0, value))}%` }} /></span>
          <span class="share">{calibrated?.[event] ? percent(value) : number(value, 3)}</span>
        </li>
      ))}
    </ul>
  );
}

const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

const CHANNELS = {
  cooccurrence: "taken by those who took what is in the history",
  ease: "follows from the whole history (EASE)",
  content: "content like that of the history",
  popular: "popular of late",
  new: "new items, nearest by content",
  "cold items": "new items, by the scores without the ranker",
};
const NEAR = { cooccurrence: "Often taken with", content: "Content like" };

/** Channels that named an item, with its place in each, and liked items that spoke for it. */
function Sources({ item }) {
  const near = Map.groupBy(item.nearest || [], (own) => own.by);
  return (
    <dl class="sources">
      {item.sources?.length ? (
        <div>
          <dt>From</dt>
          {item.sources.map(({ channel, rank }) => (
            <dd key={channel} class="source" title={`place ${rank}${CHANNELS[channel] ? `: ${CHANNELS[channel]}` : ""}`}><Text>{channel}</Text> <span class="quiet">#{rank}</span></dd>
          ))}
        </div>
      ) : null}
      {[...near].map(([by, items]) => (
        <div key={by}>
          <dt>{NEAR[by] || `Liked, by ${words(by)}`}</dt>
          {items.map((own) => (
            <dd key={own.item_id} title={`liked; weight ${number(own.weight, 3)}`}><a href={link("item", own.item_id)} dir="auto">{titleOf(own)}</a></dd>
          ))}
        </div>
      ))}
    </dl>
  );
}

function Chooser({ chosen, onAdd }) {
  const [text, setText] = useState("");
  const { data, fault } = useAnswer(text, async (signal) => {
    if (!text) return get("/v1/items?kind=video&limit=8", signal).then((found) => found.items);
    return get(url("/v1/search", { text, limit: 8 }), signal).then((found) => found.hits);
  });
  return (
    <section aria-label="Choose items">
      <form class="row" onSubmit={(event) => {
        event.preventDefault();
        setText(new FormData(event.currentTarget).get("pick").trim());
      }}>
        <label class="grow">Find items to choose <input name="pick" type="search" dir="auto" /></label>
        <button type="submit">Find</button>
      </form>
      <FaultNote fault={fault} />
      <ul class="picks">
        {(data || []).filter((one) => !chosen.includes(one.item_id)).map((one) => (
          <li key={one.item_id}>
            <button type="button" onClick={() => onAdd(one.item_id)}><span aria-hidden="true">+ </span><Text>{titleOf(one)}</Text></button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Chosen({ id, onRemove }) {
  const { data, busy } = useAnswer(id, (signal) => get(itemPath(id), signal));
  const title = titleOf(data?.item || { item_id: id });
  return (
    <span class="chosen" aria-busy={busy}>
      <a href={link("item", id)} dir="auto">{title}</a>
      <button type="button" class="plain" aria-label={`Remove ${title}`} onClick={onRemove}>×</button>
    </span>
  );
}

export function RecommendView({ route }) {
  const { query } = route;
  const user = query.get("user") || "";
  const history = query.getAll("history");
  const dials = Object.fromEntries(DIALS.map(([name]) => [name, Math.min(1, Math.max(0, Number(query.get(name)) || 0))]));
  const chosen = (name, options) => options.find(([key]) => key === query.get(name))?.[0] || "";
  const rank = chosen("rank", RANK);
  const rerank = chosen("rerank", RERANK);
  if (rerank) dials.explore = 0; // a list that is reranked has no propensities
  const show = (changes, options) => {
    const next = { user, history, ...dials, rank, rerank, ...changes };
    for (const [name] of DIALS) next[name] = next[name] || "";
    go("recommend", "", next, options);
  };
  const key = JSON.stringify([user, history, dials, rank, rerank]);
  const { data, fault, busy } = useAnswer(key, async (signal) => {
    if (!user && !history.length) return null;
    await new Promise((done) => setTimeout(done, 150)); // a dial that moves asks once
    if (signal.aborted) return null;
    const order = { ...(rank ? { rank } : {}), ...(rerank ? { rerank, deadline_ms: 5000 } : {}) };
    const body = { ...(user ? { user } : { history }), ...dials, ...order, limit: 12 };
    return untilLoaded(() => post("/v1/recommend", body, signal), signal);
  });
  const loading = useReadiness(busy && Boolean(user || history.length));
  return (
    <>
      <h1>Recommend</h1>
      <form class="row" onSubmit={(event) => {
        event.preventDefault();
        show({ user: new FormData(event.currentTarget).get("user").trim(), history: [] });
      }}>
        <label class="grow">User <input name="user" defaultValue={user} key={user} autocomplete="off" /></label>
        <button type="submit">Recommend</button>
      </form>
      {user ? null : <Chooser chosen={history} onAdd={(id) => show({ history: [...history, id] })} />}
      {history.length && !user ? (
        <p class="by">
          Chosen:{" "}
          {history.map((id) => <Chosen key={id} id={id} onRemove={() => show({ history: history.filter((one) => one !== id) })} />)}
        </p>
      ) : null}
      <div class="row dials" role="group" aria-label="Dials">
        {DIALS.map(([name, label, help]) => (
          <label key={name} title={help}>
            <span>{label} <output>{number(dials[name])}</output></span>
            <input type="range" min="0" max="1" step="0.05" value={dials[name]} disabled={name === "explore" && Boolean(rerank)} onInput={(event) => show({ [name]: event.currentTarget.value }, { replace: true })} />
          </label>
        ))}
      </div>
      <div class="row" role="group" aria-label="Order">
        <Choice name="rank" label="Rank" options={RANK} value={rank} onChange={(value) => show({ rank: value })} help="order by the fitted ranker" />
        <Choice name="rerank" label="Rerank" options={RERANK} value={rerank} onChange={(value) => show({ rerank: value })} help="order the first 30 anew; not together with exploration" />
      </div>
      <section aria-label="Recommendations" aria-busy={busy}>
        <FaultNote fault={fault} />
        {loading ? <p class="quiet" role="status">{shown(loading)}</p> : <Busy busy={busy && !data && (user || history.length)} />}
        {data ? (
          <>
            <p class="quiet" role="status">{data.items.length} items, scored by {data.scored_by}, from {data.history} liked items</p>
            <Order data={data} rank={rank} />
            <Notes notes={data.notes.filter((note) => !note.startsWith("not reranked: "))} />
            <Cards label="Recommended items">
              {data.items.map((one) => (
                <Card key={one.item_id} item={one}>
                  {one.explored ? <span class="mark">explored</span> : null}
                  {one.p ? <Chances p={one.p} calibrated={data.ranked?.calibrated} /> : null}
                  {one.reason ? <Text as="p" class="reason">{one.reason}</Text> : null}
                  {one.sources?.length || one.nearest?.length ? <Sources item={one} /> : null}
                  <span class="quiet">Place {one.rank}, score {number(one.score)}</span>
                </Card>
              ))}
            </Cards>
          </>
        ) : user || history.length ? null : <p class="quiet">Name a user, or choose items.</p>}
      </section>
    </>
  );
}
