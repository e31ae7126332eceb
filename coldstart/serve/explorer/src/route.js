// Views by the hash of the address: `#/item/clip-7`, `#/search?text=oat+milk&kind=product`.
import { useEffect, useState } from "preact/hooks";
import { url } from "./api.js";

export function read(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  let id = "";
  try {
    id = decodeURIComponent(rest.join("/"));
  } catch {
    id = rest.join("/");
  }
  return { view: view || "search", id, query: new URLSearchParams(query) };
}

export const link = (view, id = "", query = {}) =>
  url(`#/${view}${id === "" ? "" : `/${encodeURIComponent(id)}`}`, query);

export function go(view, id, query, { replace = false } = {}) {
  const target = link(view, id, query);
  if (replace) {
    history.replaceState(null, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = target;
}

export function useRoute() {
  const [route, setRoute] = useState(() => read(location.hash));
  useEffect(() => {
    const changed = () => setRoute(read(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
