// Search by words, a picture, a clip or an item; without any of them the catalogue in order of ids.
import { useRef, useState } from "preact/hooks";
import { get, post, url, useAnswer } from "./api.js";
import { Busy, Card, Cards, count, Dropped, FaultNote, Notes, number, shown, titleOf, words } from "./parts.jsx";
import { go, link } from "./route.js";

const PAGE = 24;

/** Nearness in each space, in words and as a bar. */
export function Spaces({ hit }) {
  const names = Object.keys(hit.ranks);
  return (
    <details class="spaces">
      <summary>
        Score {number(hit.score)}
        <span class="quiet"> by {names.map(words).join(", ")}</span>
      </summary>
      <ul>
        {names.map((name) => {
          const cosine = name in hit.distances ? 1 - hit.distances[name] : null;
          return (
            <li key={name}>
              <span>
                {name === "full_text" ? "words" : name}: place {hit.ranks[name]}
                {cosine === null ? "" : `, cosine ${number(cosine)}`}
              </span>
              {cosine === null ? null : <meter min="0" max="1" value={Math.max(0, cosine)} aria-label={`cosine in ${name}`} />}
            </li>
          );
        })}
      </ul>
      <p class="quiet">0: as near as the catalogue on average. 1: as near as right items are.</p>
    </details>
  );
}

export function Copies({ ids }) {
  return ids && ids.length ? (
    <details>
      <summary>
        {count(ids.length)} {ids.length === 1 ? "copy" : "copies"}
      </summary>
      <ul>
        {ids.map((id) => (
          <li key={id}>
            <a href={link("item", id)} dir="auto">
              {shown(id)}
            </a>
          </li>
        ))}
      </ul>
    </details>
  ) : null;
}

export function SearchView({ route }) {
  const { query } = route;
  const given = {
    text: query.get("text") || "",
    item: query.get("item") || "",
    kind: query.get("kind") || "",
    where: query.get("where") || "",
    copies: query.get("copies") === "true",
    space: query.getAll("space"),
  };
  const [file, setFile] = useState(null);
  const form = useRef(null);
  const status = useAnswer("status", (signal) => get("/v1/status", signal));
  const submit = (changes = {}) => {
    const data = new FormData(form.current);
    const next = {
      text: data.get("text").trim(),
      kind: data.get("kind"),
      where: data.get("where").trim(),
      copies: data.get("copies") === "on",
      space: data.getAll("space"),
      item: given.item,
      ...changes,
    };
    if (next.text) next.item = changes.item || "";
    go("search", "", next);
  };
  const choose = (chosen) => {
    if (!chosen) return;
    form.current.elements.text.value = "";
    setFile(chosen);
    submit({ text: "", item: "" });
  };
  const sought = { ...given, file };
  return (
    <Dropped onFile={choose}>
      <h1 class="unseen">Search</h1>
      <form
        ref={form}
        role="search"
        class="search"
        onSubmit={(event) => {
          event.preventDefault();
          if (form.current.elements.text.value.trim()) setFile(null);
          submit();
        }}
      >
        <div class="row">
          <label class="grow">
            <span class="unseen">Words to search for</span>
            <input id="words" name="text" type="search" placeholder="Words, or drop a picture or a clip here" defaultValue={given.text} key={given.text} dir="auto" maxlength="4000" />
          </label>
          <button type="submit">Search</button>
          <label class="file">
            <input
              type="file"
              accept="image/*,video/*"
              onChange={(event) => {
                choose(event.currentTarget.files[0]);
                event.currentTarget.value = "";
              }}
            />
            <span>Picture or clip…</span>
          </label>
        </div>
        <Filters given={given} spaces={status.data?.spaces || []} fields={status.data?.fields} onChange={() => submit()} />
      </form>
      {file ? (
        <p class="by">
          By <b dir="auto">{shown(file.name)}</b>{" "}
          <button type="button" class="plain" onClick={() => setFile(null)}>
            Remove
          </button>
        </p>
      ) : null}
      {given.item && !file ? (
        <p class="by">
          More like{" "}
          <a href={link("item", given.item)} dir="auto">
            {shown(given.item)}
          </a>{" "}
          <button type="button" class="plain" onClick={() => submit({ item: "" })}>
            Remove
          </button>
        </p>
      ) : null}
      <Results sought={sought} />
    </Dropped>
  );
}

function Filters({ given, spaces, fields, onChange }) {
  return (
    <div class="row filters">
      <label>
        Kind
        <select name="kind" value={given.kind} onChange={onChange}>
          <option value="">all</option>
          <option value="product">products</option>
          <option value="video">videos</option>
        </select>
      </label>
      <label class="grow">
        Where
        <input name="where" defaultValue={given.where} key={given.where} placeholder="price < 20 AND category = 'Fruit'" aria-describedby="wherefault" maxlength="2000" spellcheck={false} list="fields" autocomplete="off" />
      </label>
      <datalist id="fields">
        {Object.keys(fields || {}).map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      {spaces.length ? (
        <fieldset>
          <legend>Spaces</legend>
          {spaces.map((name) => (
            <label key={name} class="check">
              <input type="checkbox" name="space" value={name} checked={given.space.includes(name)} onChange={onChange} />
              {name}
            </label>
          ))}
        </fieldset>
      ) : null}
      <label class="check">
        <input type="checkbox" name="copies" checked={given.copies} onChange={onChange} />
        with copies
      </label>
    </div>
  );
}

function ask({ text, item, kind, where, copies, space, file }, cursor, limit, signal) {
  if (file) {
    const form = new FormData();
    form.append("file", file);
    form.append("limit", limit);
    if (kind) form.append("kind", kind);
    if (where) form.append("where", where);
    for (const one of space) form.append("space", one);
    return post("/v1/search/media", form, signal);
  }
  if (text || item) {
    const body = { kind: kind || null, where: where || null, copies, limit, cursor, spaces: space.length ? space : null };
    return post("/v1/search", { ...body, ...(text ? { text } : { item }) }, signal);
  }
  return get(url("/v1/items", { kind, where, limit, cursor }), signal);
}

function Results({ sought }) {
  const { file, ...rest } = sought;
  const key = JSON.stringify([rest, file && [file.name, file.size, file.lastModified]]);
  const { data, fault, busy } = useAnswer(key, (signal) => ask(sought, null, PAGE, signal));
  const [more, setMore] = useState({ key, hits: [], cursor: undefined, fault: null });
  const mine = more.key === key && more.publication === data?.publication ? more : { hits: [], cursor: undefined };
  const first = data ? data.hits || data.items : [];
  const hits = [...first, ...mine.hits];
  const cursor = mine.cursor === undefined ? data?.next_cursor : mine.cursor;
  const next = async () => {
    try {
      const page = await ask(sought, cursor, PAGE);
      setMore({ key, publication: data.publication, hits: [...mine.hits, ...(page.hits || page.items)], cursor: page.next_cursor });
    } catch (problem) {
      setMore({ ...mine, key, publication: data.publication, cursor, fault: problem });
    }
  };
  const atWhere = fault && String(fault.where || "").startsWith("where");
  return (
    <section aria-label="Results" aria-busy={busy}>
      <p id="wherefault" class={atWhere ? "fault" : "quiet"} role={atWhere ? "alert" : undefined}>
        {atWhere ? shown(fault.message) : ""}
      </p>
      {fault && !atWhere ? <FaultNote fault={fault} /> : null}
      <Busy busy={busy && !data} />
      {data ? (
        <>
          <p class="quiet" role="status">
            {data.total === undefined
              ? hits.length
                ? `${count(hits.length)} best${cursor ? ", more below" : ""}`
                : "Nothing found: try fewer conditions."
              : data.total
                ? `${count(data.total)} items`
                : "No items meet these conditions."}{" "}
            (of {data.publication})
          </p>
          <Notes notes={data.notes} />
          <Cards label="Items">
            {hits.map((hit) => (
              <Card key={hit.item_id} item={hit} actions={<a href={link("recommend", "", { history: hit.item_id })} aria-label={`Recommend from it: ${titleOf(hit)}`}>Recommend from it</a>}>
                {hit.ranks ? <Spaces hit={hit} /> : null}
                <Copies ids={hit.copies} />
              </Card>
            ))}
          </Cards>
          <FaultNote fault={mine.fault} />
          {cursor ? (
            <button type="button" class="more" onClick={next}>
              More
            </button>
          ) : null}
        </>
      ) : null}
    </section>
  );
}
