// Requests to the server, with the token of this tab; media as links, or as blobs where a token must be sent.
import { useEffect, useState } from "preact/hooks";

const KEY = "coldstart.token";
const COMMAND = /`coldstart |(^|\s)--[a-z]/; // a next step that takes a command line: no browser has one
let asked = () => {};

export const token = () => sessionStorage.getItem(KEY) || "";
export function setToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}
export function onTokenNeeded(listener) {
  asked = listener;
}

function headers(more) {
  return token() ? { ...more, Authorization: `Bearer ${token()}` } : { ...more };
}

export class Fault extends Error {
  constructor(problem) {
    const said = problem.detail || problem.title || "the server does not answer";
    const next = problem.next && !said.includes(problem.next) && !COMMAND.test(problem.next) ? problem.next : "";
    super(next ? `${said}: ${next}` : said);
    Object.assign(this, { status: problem.status, kind: problem.kind, where: problem.where });
  }
}

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault({ detail: "the server does not answer: is `coldstart serve` running?" });
  }
  if (response.ok) return response;
  if (response.status === 401) asked();
  throw new Fault(await response.json().catch(() => ({ status: response.status, title: response.statusText })));
}

/** Path with a query; undefined, empty and false values are left out. */
export function url(path, query = {}) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined && one !== null && one !== "" && one !== false) given.append(name, one);
  const text = given.toString();
  return text ? `${path}?${text}` : path;
}

export const itemPath = (id, rest = "") => `/v1/items/${encodeURIComponent(id)}${rest}`;
const json = (method, body, signal, more) => ({
  method, signal, body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...more },
});
export const get = async (path, signal) => (await send(path, { signal })).json();
export const post = async (path, body, signal, more) =>
  (await send(path, body instanceof FormData ? { method: "POST", body, signal } : json("POST", body, signal, more))).json();
export const remove = async (path, body) => (await send(path, json("DELETE", body))).json();

/** Answer of `ask()`, asked anew each second while the server is busy, as while it loads its models. */
export async function untilLoaded(ask, signal) {
  for (;;) {
    try {
      return await ask();
    } catch (fault) {
      if (fault.status !== 503 || fault.kind !== "busy" || signal.aborted) throw fault;
    }
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** Why the server is not ready yet, looked up each second while something is `awaited`; empty once it is. */
export function useReadiness(awaited) {
  const [why, setWhy] = useState("");
  useEffect(() => {
    if (!awaited) return undefined;
    let timer = 0;
    const control = new AbortController();
    const look = async () => {
      const found = await fetch("/readyz", { signal: control.signal }).then((response) => response.json()).catch(() => null);
      if (control.signal.aborted) return;
      const named = found && !found.ready && found.why ? `${found.why[0].toUpperCase()}${found.why.slice(1)}.` : "";
      setWhy(named && `${named} The list comes by itself.`);
      if (named) timer = setTimeout(look, 1000);
    };
    timer = setTimeout(look, 500);
    return () => {
      clearTimeout(timer);
      control.abort();
      setWhy("");
    };
  }, [awaited]);
  return why;
}

/** A key by which a request that is sent again is known; `crypto.randomUUID` is there only behind TLS. */
export const requestKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");

/** Answer of `load(signal)` for a key; a later key ends the request before. The last answer stays until the next is there. */
export function useAnswer(key, load) {
  const [state, setState] = useState({ data: null, fault: null, busy: true });
  useEffect(() => {
    const control = new AbortController();
    setState((before) => ({ ...before, busy: true }));
    Promise.resolve(load(control.signal)).then(
      (data) => control.signal.aborted || setState({ data, fault: null, busy: false }),
      (fault) => control.signal.aborted || setState({ data: null, fault, busy: false }),
    );
    return () => control.abort();
  }, [key]);
  return state;
}

/** Address of a medium for `src`: itself, or a blob's while a token is needed to read it. */
export function useMedium(href) { // null: none is asked
  const [found, setFound] = useState({ src: token() ? null : href, fault: null });
  useEffect(() => {
    if (!token() || !href) {
      setFound({ src: href, fault: null });
      return undefined;
    }
    const control = new AbortController();
    let made = null;
    setFound({ src: null, fault: null });
    send(href, { signal: control.signal })
      .then((response) => response.blob())
      .then((blob) => {
        if (control.signal.aborted) return;
        made = URL.createObjectURL(blob);
        setFound({ src: made, fault: null });
      })
      .catch((fault) => control.signal.aborted || setFound({ src: null, fault }));
    return () => {
      control.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [href]);
  return found;
}
