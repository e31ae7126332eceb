// Parts that several views have: titles, pictures, players, cards, faults.
import { useEffect, useRef, useState } from "preact/hooks";
import { useMedium } from "./api.js";
import { link } from "./route.js";

/** Text of a stranger with its control characters made visible: an id of bytes would look like nothing. */
export const shown = (text) =>
  String(text).replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
export const titleOf = (item) => shown((item.title || "").trim() || item.item_id);
export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits));
export const count = (value) => Number(value).toLocaleString("en");
export const words = (code) => String(code).replaceAll("_", " ");
export const clock = (second) => {
  const whole = Math.max(0, second);
  return `${Math.floor(whole / 60)}:${(whole % 60).toFixed(1).padStart(4, "0")}`;
};
export const when = (iso) => (iso ? `${iso.slice(0, 10)} ${iso.slice(11, 16)}` : "");

export const Time = ({ at }) => (at ? <time datetime={at}>{when(at)}</time> : null);

export function Text({ children, as: As = "span", ...rest }) {
  return (
    <As dir="auto" {...rest}>
      {shown(children ?? "")}
    </As>
  );
}

export function FaultNote({ fault }) {
  return fault ? (
    <p class="fault" role="alert">
      {shown(fault.message)}
    </p>
  ) : null;
}

export function Notes({ notes }) {
  return notes && notes.length ? (
    <ul class="notes">
      {notes.map((note) => (
        <li key={note}>{shown(note)}</li>
      ))}
    </ul>
  ) : null;
}

export function Picture({ media, alt = "", side = 320 }) {
  const medium = media.find((one) => one.role !== "audio");
  return medium ? <Shot href={`${medium.href}?side=${side}`} alt={alt} /> : <span class="nopicture">no picture</span>;
}

function Shot({ href, alt }) {
  const { src, fault } = useMedium(href);
  const [broken, setBroken] = useState(false);
  useEffect(() => setBroken(false), [href]);
  if (broken || fault) return <span class="nopicture">picture cannot be read</span>;
  return (
    <span class="picture">
      {src ? <img src={src} alt={alt} loading="lazy" onError={() => setBroken(true)} /> : null}
    </span>
  );
}

/** Player of one medium; `at` is `{second}` to jump to, a new object for each jump; `own`: a file of this machine. */
export function Player({ medium, at, onTime, label, own = false }) {
  const found = useMedium(own ? null : medium.href);
  const { src, fault } = own ? { src: medium.href, fault: null } : found;
  const [broken, setBroken] = useState(false);
  const player = useRef(null);
  useEffect(() => setBroken(false), [medium.href]);
  useEffect(() => {
    const here = player.current;
    if (!at || !here) return undefined;
    const jump = () => (here.currentTime = at.second);
    if (here.readyState >= 1) return void jump();
    here.addEventListener("loadedmetadata", jump, { once: true });
    here.load();
    return () => here.removeEventListener("loadedmetadata", jump);
  }, [at, src]);
  if (medium.role === "image") return <Shot href={`${medium.href}?side=1024`} alt={label} />;
  if (broken || fault)
    return (
      <div>
        {own ? null : <Picture media={[medium]} side={640} alt={label} />}
        <p class="quiet">This browser cannot play it from here.</p>
      </div>
    );
  const As = medium.role === "audio" ? "audio" : "video";
  return src ? (
    <As
      ref={player}
      src={src}
      controls
      preload="metadata"
      aria-label={label}
      onError={() => setBroken(true)}
      onTimeUpdate={onTime ? (event) => onTime(event.currentTarget.currentTime) : undefined}
    />
  ) : (
    <p class="quiet" role="status">Loading the medium…</p>
  );
}

/** Place on which a file can be dropped. */
export function Dropped({ onFile, children }) {
  const [over, setOver] = useState(false);
  return (
    <div
      class={over ? "dropping" : ""}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => event.currentTarget.contains(event.relatedTarget) || setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
      }}
    >
      {children}
    </div>
  );
}

export function Marks({ item }) {
  return (
    <span class="marks">
      {item.kind ? <span class="mark">{item.kind}</span> : null}
      {item.cold === true ? (
        <span class="mark cold" title="few or no interactions yet">
          cold
        </span>
      ) : null}
      {item.cold === false ? <span class="mark">known</span> : null}
    </span>
  );
}

export function Facts({ item }) {
  const facts = [item.category, item.creator, item.price === null || item.price === undefined ? null : String(item.price)];
  return (
    <span class="facts">
      {facts.filter(Boolean).map((fact, place) => (
        <Text key={place} class="fact">
          {fact}
        </Text>
      ))}
    </span>
  );
}

export function Card({ item, children, actions }) {
  return (
    <li class="card">
      <a class="cardlink" href={link("item", item.item_id)} title={titleOf(item)}>
        <Picture media={item.media} />
        <Text as="span" class="title">
          {titleOf(item)}
        </Text>
      </a>
      <Marks item={item} />
      <Facts item={item} />
      {children}
      <span class="actions">
        {actions}
        <a href={link("search", "", { item: item.item_id })} aria-label={`More like this: ${titleOf(item)}`}>
          More like this
        </a>
        {item.kind === "video" ? (
          <a href={link("match", item.item_id)} aria-label={`Products in it: ${titleOf(item)}`}>
            Products in it
          </a>
        ) : null}
      </span>
    </li>
  );
}

/** Grid of cards; arrow keys go from one to the next. */
export function Cards({ children, label }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.classList.contains("cardlink")) return;
    const links = [...event.currentTarget.querySelectorAll("a.cardlink")];
    const next = links[links.indexOf(event.target) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  };
  return (
    <ol class="cards" aria-label={label} onKeyDown={move}>
      {children}
    </ol>
  );
}

export function Busy({ busy }) {
  return (
    <p class="busy" role="status">
      {busy ? "Loading…" : ""}
    </p>
  );
}

export function Section({ title, answer, children }) {
  const id = `title-${title.toLowerCase()}`;
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      <FaultNote fault={answer.fault} />
      <Busy busy={answer.busy && !answer.data} />
      {answer.data ? children(answer.data) : null}
    </section>
  );
}

/** Table; on a narrow screen each cell stands below the other with its head. `wide`: places of the columns that hold sentences or lists. */
export function Table({ head, rows, label, wide = [] }) {
  return (
    <div class="scroll" tabindex="0" role="region" aria-label={`${label}, table`}>
      <table>
        <thead>
          <tr>
            {head.map((one) => (
              <th scope="col" key={one}>
                {one}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((cells, place) => (
            <tr key={place}>
              {cells.map((cell, at) => (
                <td key={at} class={wide.includes(at) ? "wide" : undefined} data-head={head[at]}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
