// A video beside the products that it shows or names; the second that speaks for each jumps the player.
import { useEffect, useState } from "preact/hooks";
import { get, itemPath, post, url, useAnswer } from "./api.js";
import { Busy, clock, Dropped, Facts, FaultNote, Notes, number, Picture, Player, shown, Text, titleOf } from "./parts.jsx";
import { link } from "./route.js";

function Videos({ onFile }) {
  const { data, fault, busy } = useAnswer("videos", (signal) => get("/v1/items?kind=video&limit=48", signal));
  return (
    <>
      <h1>Match</h1>
      <div class="row">
        <p class="grow">Choose a video, or drop a clip here, to see the products that it shows or names.</p>
        <label class="file">
          <input type="file" accept="video/*" onChange={(event) => onFile(event.currentTarget.files[0])} />
          <span>Clip…</span>
        </label>
      </div>
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

function Products({ answer, onJump }) {
  const { data, fault, busy } = answer;
  return (
    <section aria-label="Products" aria-busy={busy}>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {data ? <p class="quiet">Compared by {data.used.join(", ")}. Weights: {data.weights}. {data.candidates} candidates.</p> : null}
      <Notes notes={data?.notes} />
      {data && !data.matches.length ? <p>No product speaks for it.</p> : null}
      <ol class="matches">
        {(data?.matches || []).map((one) => (
          <li key={one.item_id} class="match">
            <Picture media={one.media} side={160} />
            <div>
              <a href={link("item", one.item_id)}><Text class="title">{titleOf(one)}</Text></a>
              <Facts item={one} />
              <p class="quiet">Score {number(one.score, 3)}</p>
              <ul class="speaks">
                <Speaks one={one.frame} name="frame" onJump={onJump} />
                <Speaks one={one.words} name={one.words?.source} onJump={onJump} />
              </ul>
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

function OneVideo({ id }) {
  const item = useAnswer(`item ${id}`, (signal) => get(itemPath(id), signal));
  const found = useAnswer(id, (signal) => get(url(itemPath(id, "/match"), { limit: 8 }), signal));
  const [at, setAt] = useState(null);
  const medium = item.data?.media.find((one) => one.role === "video");
  const title = item.data ? titleOf({ ...item.data.item, item_id: id }) : id;
  return (
    <>
      <Text as="h1">{title}</Text>
      <p><a href="#/match">Other videos</a> · <a href={link("item", id)}>All of this video</a></p>
      <FaultNote fault={item.fault} />
      <div class="columns">
        <div class="media stick">{medium ? <Player medium={medium} at={at} label={title} /> : null}</div>
        <Products answer={found} onJump={(second) => setAt({ second })} />
      </div>
    </>
  );
}

/** A clip of this machine, sent to be compared; nothing of it stays on the server. */
function Sent({ file, onEnd }) {
  const [asked, setAsked] = useState({ title: "", listen: false });
  const [at, setAt] = useState(null);
  const [src, setSrc] = useState(null);
  useEffect(() => {
    const made = URL.createObjectURL(file);
    setSrc(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  const found = useAnswer(JSON.stringify([file.name, file.size, file.lastModified, asked]), (signal) => {
    const form = new FormData();
    form.append("file", file);
    form.append("limit", 8);
    if (asked.title) form.append("title", asked.title);
    if (asked.listen) form.append("listen", "true");
    return post("/v1/match/media", form, signal);
  });
  return (
    <>
      <h1 dir="auto">{shown(file.name)}</h1>
      <p><button type="button" class="plain" onClick={onEnd}>Other videos</button></p>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          const data = new FormData(event.currentTarget);
          setAsked({ title: data.get("title").trim(), listen: data.get("listen") === "on" });
        }}
      >
        <label class="grow">Its title, whose words are compared, too <input name="title" maxlength="1000" dir="auto" /></label>
        <label class="check"><input type="checkbox" name="listen" /> listen, and read its text</label>
        <button type="submit">Compare</button>
      </form>
      <div class="columns">
        <div class="media stick">{src ? <Player medium={{ role: "video", href: src }} own at={at} label={shown(file.name)} /> : null}</div>
        <Products answer={found} onJump={(second) => setAt({ second })} />
      </div>
    </>
  );
}

export function MatchView({ route }) {
  const [file, setFile] = useState(null);
  if (route.id) return <OneVideo id={route.id} />;
  return (
    <Dropped onFile={setFile}>
      {file ? <Sent file={file} onEnd={() => setFile(null)} /> : <Videos onFile={setFile} />}
    </Dropped>
  );
}
