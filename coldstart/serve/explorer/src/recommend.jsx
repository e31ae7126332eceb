// Recommendations for a user or for chosen items, with the dials of the list.
import { useState } from "preact/hooks";
import { get, itemPath, post, url, useAnswer } from "./api.js";
import { Busy, Card, Cards, FaultNote, Notes, number, Text, titleOf } from "./parts.jsx";
import { go, link } from "./route.js";

const DIALS = [
  ["cold_share", "Cold share", "least share of new items"],
  ["diversity", "Diversity", "0: nearest only; 1: as different as may be"],
  ["explore", "Exploration", "share of places drawn at random"],
];

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
  const show = (changes, options) => {
    const next = { user, history, ...dials, ...changes };
    for (const [name] of DIALS) next[name] = next[name] || "";
    go("recommend", "", next, options);
  };
  const key = JSON.stringify([user, history, dials]);
  const { data, fault, busy } = useAnswer(key, async (signal) => {
    if (!user && !history.length) return null;
    await new Promise((done) => setTimeout(done, 150)); // a dial that moves asks once
    if (signal.aborted) return null;
    return post("/v1/recommend", { ...(user ? { user } : { history }), ...dials, limit: 12 }, signal);
  });
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
            <input type="range" min="0" max="1" step="0.05" value={dials[name]} onInput={(event) => show({ [name]: event.currentTarget.value }, { replace: true })} />
          </label>
        ))}
      </div>
      <section aria-label="Recommendations" aria-busy={busy}>
        <FaultNote fault={fault} />
        <Busy busy={busy && !data && (user || history.length)} />
        {data ? (
          <>
            <p class="quiet" role="status">{data.items.length} items, scored by {data.scored_by}, from {data.history} liked items</p>
            <Notes notes={data.notes} />
            <Cards label="Recommended items">
              {data.items.map((one) => (
                <Card key={one.item_id} item={one}>
                  {one.explored ? <span class="mark">explored</span> : null}
                  {one.reason ? <Text as="p" class="reason">{one.reason}</Text> : null}
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
