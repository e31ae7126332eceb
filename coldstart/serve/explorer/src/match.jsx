// A video beside the products that it shows or names; the second that speaks for each jumps the player.
import { useState } from "preact/hooks";
import { get, itemPath, url, useAnswer } from "./api.js";
import { Busy, clock, Facts, FaultNote, Notes, number, Picture, Player, Text, titleOf } from "./parts.jsx";
import { link } from "./route.js";

function Videos() {
  const { data, fault, busy } = useAnswer("videos", (signal) => get("/v1/items?kind=video&limit=48", signal));
  return (
    <>
      <h1>Match</h1>
      <p>Choose a video to see the products that it shows or names.</p>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      <ol class="cards" aria-label="Videos">
        {(data?.items || []).map((item) => (
          <li class="card" key={item.item_id}>
            <a class="cardlink" href={link("match", item.item_id)}>
              <Picture media={item.media} />
              <Text class="title">{titleOf(item)}</Text>
            </a>
          </li>
        ))}
      </ol>
      {data && !data.items.length ? <p class="quiet">This catalogue has no videos.</p> : null}
    </>
  );
}

function Speaks({ one, name, onJump }) {
  if (!one) return null;
  return (
    <li>
      {one.second === null ? <span>{one.source}</span> : (
        <button type="button" class="plain" onClick={() => onJump(one.second)} aria-label={`Jump to ${clock(one.second)}, ${name}`}>{clock(one.second)}</button>
      )}{" "}
      <span class="quiet">{name}, cosine {number(one.cosine)}</span> {one.text ? <Text>“{one.text}”</Text> : null}
      {one.seconds.slice(1).map((second) => (
        <button type="button" class="plain" key={second} onClick={() => onJump(second)} aria-label={`Jump to ${clock(second)}`}>{clock(second)}</button>
      ))}
    </li>
  );
}

function OneVideo({ id }) {
  const item = useAnswer(`item ${id}`, (signal) => get(itemPath(id), signal));
  const { data, fault, busy } = useAnswer(id, (signal) => get(url(itemPath(id, "/match"), { limit: 8 }), signal));
  const [at, setAt] = useState(null);
  const medium = item.data?.media.find((one) => one.role === "video");
  const title = item.data ? titleOf({ ...item.data.item, item_id: id }) : id;
  const jump = (second) => setAt({ second });
  return (
    <>
      <Text as="h1">{title}</Text>
      <p><a href="#/match">Other videos</a> · <a href={link("item", id)}>All of this video</a></p>
      <FaultNote fault={item.fault} />
      <div class="columns">
        <div class="media stick">{medium ? <Player medium={medium} at={at} label={title} /> : null}</div>
        <section aria-label="Products" aria-busy={busy}>
          <FaultNote fault={fault} />
          <Busy busy={busy && !data} />
          {data ? <p class="quiet">Compared by {data.used.join(", ")}. Weights: {data.weights}. {data.candidates} candidates.</p> : null}
          <Notes notes={data?.notes} />
          <ol class="matches">
            {(data?.matches || []).map((one) => (
              <li key={one.item_id} class="match">
                <Picture media={one.media} side={160} />
                <div>
                  <a href={link("item", one.item_id)}><Text class="title">{titleOf(one)}</Text></a>
                  <Facts item={one} />
                  <p class="quiet">Score {number(one.score, 3)}</p>
                  <ul class="speaks">
                    <Speaks one={one.frame} name="frame" onJump={jump} />
                    <Speaks one={one.words} name={one.words?.source} onJump={jump} />
                  </ul>
                </div>
              </li>
            ))}
          </ol>
        </section>
      </div>
    </>
  );
}

export function MatchView({ route }) {
  return route.id ? <OneVideo id={route.id} /> : <Videos />;
}
