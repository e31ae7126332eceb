// Map of the catalogue: a point for each item, near where their vectors are; a lasso makes a list.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, itemPath, url, useAnswer } from "./api.js";
import { Busy, count, FaultNote, Notes, Picture, shown, Table, Text, titleOf } from "./parts.jsx";
import { draw, gridOf, inside, thinned, toPlane, toScreen } from "./plot.js";
import { go, link } from "./route.js";

// Okabe and Ito's colours, of which those who see colours differently can tell most apart; two for light and dark.
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#007a5a", "#a8478a", "#8a6d00", "#3f8fc4", "#7a3b1d", "#5b5b5b"],
  dark: ["#56b4e9", "#e69f00", "#2fc79a", "#e38fc0", "#f0e442", "#8fb8ff", "#d98e6a", "#bdbdbd"],
};
const KINDS = { category: "category", kind: "kind", cold: "cold or known" };
const LISTED = 20;
const HOME = { x: 0, y: 0, zoom: 1 };

/** Point of a place: the columns of the answer are read for the few that are shown. */
const pointAt = (data, i) => ({ item_id: data.item_id[i], kind: data.kind[i], category: data.categories[data.category[i]] ?? null, cold: data.cold[i] });

function groupOf(data, by, i) {
  if (by === "kind") return data.kind[i] || "without";
  if (by === "cold") return data.cold[i] === null ? "not known" : data.cold[i] ? "cold" : "known";
  return data.category[i] === null ? "without" : data.categories[data.category[i]];
}

/** Groups by size, the smallest joined to one, so that each has a colour of its own. */
function grouped(data, by, most) {
  const counts = new Map();
  const names = data.item_id.map((_, i) => groupOf(data, by, i));
  for (const name of names) counts.set(name, (counts.get(name) || 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const own = ranked.length > most ? ranked.slice(0, most - 1) : ranked;
  const rest = ranked.slice(own.length);
  const groups = own.map(([name, n]) => ({ name, n }));
  if (rest.length) groups.push({ name: `${rest.length} others`, n: rest.reduce((sum, [, n]) => sum + n, 0) });
  const places = new Map(own.map(([name], place) => [name, place]));
  return { groups, group: Uint8Array.from(names, (name) => places.get(name) ?? own.length) };
}

const packed = (hex) => (0xff000000 | (parseInt(hex.slice(5, 7), 16) << 16) | (parseInt(hex.slice(3, 5), 16) << 8) | parseInt(hex.slice(1, 3), 16)) >>> 0;
const numbers = (text) => (text || "").split(",").map(Number).filter(Number.isFinite);

function useTheme() {
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setDark(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return dark ? "dark" : "light";
}

function Hover({ point, left, top }) {
  const [id, setId] = useState(null); // asked once the pointer rests
  useEffect(() => {
    const timer = setTimeout(() => setId(point.item_id), 120);
    return () => clearTimeout(timer);
  }, [point.item_id]);
  const { data, fault } = useAnswer(`hover ${id}`, (signal) => (id ? get(itemPath(id), signal) : null));
  return (
    <div class="hover" style={{ left: `${left}px`, top: `${top}px` }}>
      {data && id === point.item_id ? <Picture media={data.media} side={160} /> : <span class="nopicture">{fault ? "no picture" : "…"}</span>}
      <Text class="title">{titleOf(data && id === point.item_id ? { ...data.item, item_id: id } : point)}</Text>
      <span class="quiet">{[point.kind, point.category].filter(Boolean).map(shown).join(", ")}</span>
    </div>
  );
}

function Plane({ data, xy, grid, order, colours, view, setView, polygon, onLasso, chosen, tool, theme, onSize }) {
  const canvas = useRef(null);
  const frame = useRef(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [over, setOver] = useState(null);
  const [line, setLine] = useState(null);
  const held = useRef({ pointers: new Map() });
  const ratio = Math.min(2, devicePixelRatio || 1);
  const scale = (Math.min(size.width, size.height) / 2.1) * view.zoom;
  const plane = { x: view.x, y: view.y, scale };
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => {
      const found = { width: Math.round(entry.contentRect.width), height: Math.round(entry.contentRect.height) };
      setSize(found);
      onSize(found);
    });
    watch.observe(frame.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    const request = requestAnimationFrame(() =>
      draw(canvas.current, {
        ...xy, order, colours, chosen,
        view: { ...plane, scale: scale * ratio },
        size: ratio * Math.min(6, Math.max(xy.x.length > 20000 ? 1 : xy.x.length > 2000 ? 2 : 4, Math.log2(view.zoom) + 2)),
        ring: theme === "dark" ? 0xffffffff : 0xff000000,
      }),
    );
    return () => cancelAnimationFrame(request);
  });
  const place = (event) => {
    const box = frame.current.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const zoomAt = (px, py, times) => {
    const zoom = Math.min(400, Math.max(0.5, view.zoom * times));
    const [x, y] = toPlane(plane, size.width, size.height, px, py);
    const k = view.zoom / zoom;
    setView({ zoom, x: x + (view.x - x) * k, y: y + (view.y - y) * k });
  };
  useEffect(() => {
    const here = frame.current; // a listener of the framework is passive, and could not keep the page from scrolling
    const wheel = (event) => {
      event.preventDefault();
      zoomAt(...place(event), Math.exp(-event.deltaY / 400));
    };
    here.addEventListener("wheel", wheel, { passive: false });
    return () => here.removeEventListener("wheel", wheel);
  });
  const down = (event) => {
    if (event.button) return;
    frame.current.setPointerCapture(event.pointerId);
    held.current.pointers.set(event.pointerId, place(event));
    held.current.moved = false;
    setOver(null);
    if ((tool === "lasso") !== event.shiftKey && held.current.pointers.size === 1) {
      held.current.lasso = [];
      setLine([]);
    } else {
      held.current.lasso = null;
      setLine(null);
    }
  };
  const move = (event) => {
    const [px, py] = place(event);
    const { pointers } = held.current;
    const before = pointers.get(event.pointerId);
    if (!before) {
      const [x, y] = toPlane(plane, size.width, size.height, px, py);
      const at = grid.nearest(x, y, 12 / scale, (i) => colours[i]);
      setOver(at < 0 ? null : at);
      return;
    }
    if (Math.hypot(px - before[0], py - before[1]) > 1) held.current.moved = true;
    if (held.current.lasso) {
      held.current.lasso.push(...toPlane(plane, size.width, size.height, px, py));
      setLine([...held.current.lasso]);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const times = Math.hypot(px - other[0], py - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
      zoomAt((px + other[0]) / 2, (py + other[1]) / 2, times);
    } else setView({ ...view, x: view.x - (px - before[0]) / scale, y: view.y + (py - before[1]) / scale });
    pointers.set(event.pointerId, [px, py]);
  };
  const up = (event) => {
    const { lasso, pointers, moved } = held.current;
    if (!pointers.delete(event.pointerId)) return;
    held.current.lasso = null;
    setLine(null);
    if (lasso && lasso.length >= 6) onLasso(lasso);
    else if (!moved && event.type === "pointerup") {
      const [x, y] = toPlane(plane, size.width, size.height, ...place(event));
      const at = grid.nearest(x, y, 12 / scale, (i) => colours[i]);
      if (at >= 0) go("item", data.item_id[at]);
    }
  };
  const key = (event) => {
    const step = 40 / scale;
    const to = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (to) setView({ ...view, x: view.x + to[0], y: view.y + to[1] });
    else if (event.key === "+" || event.key === "=") zoomAt(size.width / 2, size.height / 2, 1.3);
    else if (event.key === "-") zoomAt(size.width / 2, size.height / 2, 1 / 1.3);
    else if (event.key === "0") setView(HOME);
    else return;
    event.preventDefault();
  };
  const outline = (corners, closed) => {
    const screen = [];
    for (let i = 0; i < corners.length; i += 2) screen.push(toScreen(plane, size.width, size.height, corners[i], corners[i + 1]).map((one) => one.toFixed(1)).join(","));
    return <path d={`M${screen.join("L")}${closed ? "Z" : ""}`} />;
  };
  const at = over === null ? null : toScreen(plane, size.width, size.height, xy.x[over], xy.y[over]);
  return (
    <div
      ref={frame}
      class={`plane ${tool}`}
      tabindex="0"
      role="application"
      aria-label={`Map of ${count(order.length)} items. Arrows move it, plus and minus zoom, 0 shows all. The items in view are listed below.`}
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onPointerCancel={up}
      onPointerLeave={() => setOver(null)}
      onKeyDown={key}
    >
      <canvas ref={canvas} width={size.width * ratio} height={size.height * ratio} aria-hidden="true" />
      <svg class="lasso" aria-hidden="true">
        {line?.length ? outline(line, false) : polygon.length >= 6 ? outline(polygon, true) : null}
        {at ? <circle cx={at[0]} cy={at[1]} r="9" /> : null}
      </svg>
      {at ? <Hover point={pointAt(data, over)} left={Math.min(at[0] + 14, size.width - 172)} top={Math.max(4, Math.min(at[1] + 14, size.height - 200))} /> : null}
    </div>
  );
}

function Rectangle({ bounds, onSet }) {
  const submit = (event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const [x0, x1, y0, y1] = ["x0", "x1", "y0", "y1"].map((name) => Number(data.get(name)));
    onSet([x0, y0, x1, y0, x1, y1, x0, y1]);
  };
  const field = (name, label, value) => (
    <label>
      {label} <input name={name} type="number" step="0.001" required defaultValue={value.toFixed(3)} key={value} />
    </label>
  );
  return (
    <details>
      <summary>Choose by a rectangle</summary>
      <form class="row rectangle" onSubmit={submit}>
        {field("x0", "Left", bounds[0])}
        {field("x1", "Right", bounds[1])}
        {field("y0", "Below", bounds[2])}
        {field("y1", "Above", bounds[3])}
        <button type="submit">Choose</button>
      </form>
    </details>
  );
}

function save(ids) {
  const blob = new Blob(ids.map((item_id) => `${JSON.stringify({ item_id })}\n`), { type: "application/jsonl" });
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = "items.jsonl";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
}

/** Rows of one page of a list, with titles where the condition that asks for them is short enough. */
function Listed({ data, places, label }) {
  const [page, setPage] = useState(0);
  useEffect(() => setPage(0), [places]);
  const points = [...places.slice(page * LISTED, (page + 1) * LISTED)].map((i) => pointAt(data, i));
  const where = `item_id IN (${points.map((one) => `'${one.item_id.replaceAll("'", "''")}'`).join(", ")})`;
  const titles = useAnswer(`${data.publication} ${where}`, async (signal) => {
    if (!points.length || where.length > 2000) return new Map();
    const found = await get(url("/v1/items", { where, limit: LISTED }), signal).catch((fault) => (fault.name === "AbortError" ? Promise.reject(fault) : { items: [] }));
    return new Map(found.items.map((one) => [one.item_id, one.title]));
  });
  if (!points.length) return <p class="quiet">None.</p>;
  const last = Math.ceil(places.length / LISTED) - 1;
  return (
    <>
      <Table
        label={label}
        wide={[0]}
        head={["Item", "Kind", "Category", "Cold"]}
        rows={points.map((one) => [
          <a href={link("item", one.item_id)} dir="auto">{titleOf({ ...one, title: titles.data?.get(one.item_id) })}</a>, one.kind, <Text>{one.category || ""}</Text>, one.cold === true ? "cold" : one.cold === false ? "known" : "",
        ])}
      />
      {last ? (
        <p class="toolbar">
          <button type="button" class="second" disabled={!page} onClick={() => setPage(page - 1)}>Before</button>
          <span class="quiet">{count(page * LISTED + 1)} to {count(Math.min(places.length, (page + 1) * LISTED))} of {count(places.length)}</span>
          <button type="button" class="second" disabled={page === last} onClick={() => setPage(page + 1)}>After</button>
        </p>
      ) : null}
    </>
  );
}

function Plotted({ data, query, show }) {
  const theme = useTheme();
  const by = query.get("by") in KINDS ? query.get("by") : "category";
  const all = data.item_id.length;
  const xy = useMemo(() => ({ x: Float32Array.from(data.x), y: Float32Array.from(data.y) }), [data]);
  const grid = useMemo(() => gridOf(xy.x, xy.y), [xy]);
  const { groups, group } = useMemo(() => grouped(data, by, COLOURS.light.length), [data, by]);
  const [hidden, setHidden] = useState(new Set());
  useEffect(() => setHidden(new Set()), [by]);
  const order = useMemo(() => {
    const shown = Uint32Array.from({ length: all }, (_, i) => i).filter((i) => !hidden.has(group[i]));
    const under = COLOURS.light.length - 1; // the joined groups lie under those that have a colour
    return Uint32Array.from([...shown.filter((i) => group[i] === under), ...shown.filter((i) => group[i] !== under)]);
  }, [all, group, hidden]);
  const colours = useMemo(() => Uint32Array.from(group, (one) => (hidden.has(one) ? 0 : packed(COLOURS[theme][one]))), [group, hidden, theme]);
  const [tool, setTool] = useState("move");
  const [listing, setListing] = useState(false);
  const given = numbers(query.get("view"));
  const [view, setOwn] = useState(given.length === 3 && given[2] > 0 ? { x: given[0], y: given[1], zoom: given[2] } : HOME);
  const later = useRef(0);
  const setView = (next) => {
    setOwn(next);
    clearTimeout(later.current); // browsers allow few changes of an address a second
    later.current = setTimeout(() => show({ view: next === HOME ? "" : [next.x.toFixed(3), next.y.toFixed(3), next.zoom.toFixed(2)].join(",") }, { replace: true }), 300);
  };
  useEffect(() => () => clearTimeout(later.current), []);
  const select = query.get("select") || "";
  const polygon = useMemo(() => numbers(select), [select]);
  const chosen = useMemo(() => (polygon.length >= 6 ? Uint8Array.from(group, (_, i) => (colours[i] && inside(polygon, xy.x[i], xy.y[i]) ? 1 : 0)) : null), [group, xy, polygon, colours]);
  const list = useMemo(() => (chosen ? order.filter((i) => chosen[i]) : new Uint32Array()), [order, chosen]);
  const [size, setSize] = useState({ width: 1, height: 1 });
  const [halfX, halfY] = [size.width, size.height].map((one) => (1.05 * one) / Math.max(1, Math.min(size.width, size.height)) / view.zoom);
  const bounds = [view.x - halfX, view.x + halfX, view.y - halfY, view.y + halfY];
  const [rested, setRested] = useState(bounds); // what is listed follows once the map rests
  useEffect(() => {
    const timer = setTimeout(() => setRested(bounds), 200);
    return () => clearTimeout(timer);
  }, bounds);
  const inView = useMemo(() => order.filter((i) => xy.x[i] >= rested[0] && xy.x[i] <= rested[1] && xy.y[i] >= rested[2] && xy.y[i] <= rested[3]), [order, xy, rested]);
  const choose = (corners) => {
    clearTimeout(later.current);
    show({ select: thinned(corners).join(",") });
  };
  const toggle = (place) => {
    const next = new Set(hidden);
    if (!next.delete(place)) next.add(place);
    setHidden(next);
  };
  return (
    <>
      <p class="quiet" role="status">
        {count(data.shown)} of {count(data.total)} items with a vector, space {data.space}, {String(data.method).toUpperCase()}
        {data.explained?.length ? `: ${data.explained.map((one) => `${(100 * one).toFixed(one < 0.1 ? 1 : 0)} %`).join(" and ")} of what differs` : ""} (of {data.publication})
      </p>
      <Notes notes={data.notes} />
      <div class="toolbar" role="toolbar" aria-label="Map">
        {[["move", "Move"], ["lasso", "Lasso"]].map(([name, label]) => (
          <button type="button" key={name} class="second" aria-pressed={tool === name} onClick={() => setTool(name)}>{label}</button>
        ))}
        <button type="button" class="second" onClick={() => setView({ ...view, zoom: Math.min(400, view.zoom * 1.5) })} aria-label="Nearer">+</button>
        <button type="button" class="second" onClick={() => setView({ ...view, zoom: Math.max(0.5, view.zoom / 1.5) })} aria-label="Farther">−</button>
        <button type="button" class="second" onClick={() => setView(HOME)}>All</button>
      </div>
      <div class="map">
        <Plane data={data} xy={xy} grid={grid} order={order} colours={colours} view={view} setView={setView} polygon={polygon} onLasso={choose} chosen={chosen} tool={tool} theme={theme} onSize={setSize} />
        <fieldset class="legend">
          <legend>Coloured by {KINDS[by]}</legend>
          {groups.map((one, place) => (
            <label key={one.name} class="check">
              <input type="checkbox" checked={!hidden.has(place)} onChange={() => toggle(place)} />
              <svg class="dot" viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="5" fill={COLOURS[theme][place]} /></svg>
              <Text>{one.name}</Text> <span class="quiet">{count(one.n)}</span>
            </label>
          ))}
        </fieldset>
      </div>
      <Rectangle bounds={bounds} onSet={choose} />
      {chosen ? (
        <section aria-labelledby="chosentitle">
          <h2 id="chosentitle">{count(list.length)} chosen</h2>
          <p class="toolbar">
            <button type="button" onClick={() => save([...list].map((i) => data.item_id[i]))} disabled={!list.length}>Save ids (JSONL)</button>
            {list.length && list.length <= 100 ? <a href={link("recommend", "", { history: [...list].map((i) => data.item_id[i]) })}>Recommend from them</a> : null}
            <button type="button" class="plain" onClick={() => show({ select: "" })}>Choose none</button>
          </p>
          <Listed data={data} places={list} label="Chosen items" />
        </section>
      ) : null}
      <details onToggle={(event) => setListing(event.currentTarget.open)}>
        <summary>{count(inView.length)} items in view</summary>
        {listing ? <Listed data={data} places={inView} label="Items in view" /> : null}
      </details>
    </>
  );
}

export function MapView({ route }) {
  const { query } = route;
  const given = { space: query.get("space") || "", method: query.get("method") || "" };
  const { data, fault, busy } = useAnswer(JSON.stringify(given), (signal) => get(url("/v1/map", given), signal));
  const show = (changes, options) =>
    go("map", "", { ...given, by: query.get("by") || "", view: query.get("view") || "", select: query.get("select") || "", ...changes }, options);
  const another = (event) => show({ [event.currentTarget.name]: event.currentTarget.value, view: "", select: "" });
  return (
    <>
      <h1>Map</h1>
      <form class="row filters" aria-label="Map of" onSubmit={(event) => event.preventDefault()}>
        <label>
          Space
          <select name="space" value={data?.space || given.space} onChange={another}>
            {(data?.spaces || [given.space]).map((one) => <option key={one}>{one}</option>)}
          </select>
        </label>
        {data?.methods?.length > 1 ? (
          <label>
            Method
            <select name="method" value={data.method} onChange={another}>
              {data.methods.map((one) => <option key={one}>{one}</option>)}
            </select>
          </label>
        ) : null}
        <label>
          Coloured by
          <select name="by" value={query.get("by") || "category"} onChange={(event) => show({ by: event.currentTarget.value })}>
            {Object.entries(KINDS).map(([name, label]) => <option key={name} value={name}>{label}</option>)}
          </select>
        </label>
      </form>
      <FaultNote fault={fault} />
      <Busy busy={busy && !data} />
      {data ? data.item_id.length ? <Plotted key={`${data.publication} ${data.space} ${data.method}`} data={data} query={query} show={show} /> : <p class="quiet">No item has a vector in this space yet.</p> : null}
    </>
  );
}
