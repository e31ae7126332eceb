// The page: header, token dialog and the view of the address.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { onTokenNeeded, setToken, token } from "./api.js";
import { ItemView } from "./item.jsx";
import { MapView } from "./map.jsx";
import { MatchView } from "./match.jsx";
import { RecommendView } from "./recommend.jsx";
import { ReviewView } from "./review.jsx";
import { useRoute } from "./route.js";
import { SearchView } from "./search.jsx";
import { WorkspaceView } from "./workspace.jsx";

const VIEWS = {
  search: ["Search", SearchView],
  match: ["Match", MatchView],
  recommend: ["Recommend", RecommendView],
  map: ["Map", MapView],
  review: ["Review", ReviewView],
  workspace: ["Workspace", WorkspaceView],
  item: ["Item", ItemView],
};

function TokenDialog({ onDone, refused }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const save = (event) => {
    event.preventDefault();
    setToken(new FormData(event.currentTarget).get("token").trim());
    onDone();
  };
  return (
    <dialog ref={dialog} aria-labelledby="tokentitle" onCancel={onDone}>
      <form onSubmit={save}>
        <h2 id="tokentitle">This server needs a token</h2>
        {refused ? <p class="fault" role="alert">The server does not know the token that was given.</p> : null}
        <label>
          Token
          <input name="token" type="password" autocomplete="off" required />
        </label>
        <p class="quiet">It is kept until this tab is closed.</p>
        <button type="submit">Use it</button>
      </form>
    </dialog>
  );
}

function App() {
  const route = useRoute();
  const [needed, setNeeded] = useState(false);
  const [session, setSession] = useState(0);
  const main = useRef(null);
  const [name, View] = VIEWS[route.view] || VIEWS.search;
  useEffect(() => onTokenNeeded(() => setNeeded(true)), []);
  useEffect(() => {
    document.title = `${route.id || route.query.get("text") || name} · coldstart`;
  }, [route]);
  const shown = useRef(`${route.view}/${route.id}`);
  useEffect(() => {
    const now = `${route.view}/${route.id}`;
    if (shown.current === now) return; // the first view, or another question in the same
    shown.current = now;
    scrollTo(0, 0);
    if (document.activeElement === document.body) main.current.focus({ preventScroll: true }); // what had it is gone
  }, [route]);
  useEffect(() => {
    const key = (event) => {
      if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      const box = document.querySelector("#words");
      if (box) box.focus();
      else location.hash = "#/search";
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <header>
        <a class="brand" href="#/search">
          coldstart
        </a>
        <nav aria-label="Views">
          {["search", "match", "recommend", "map", "review", "workspace"].map((view) => (
            <a key={view} href={`#/${view}`} aria-current={route.view === view ? "page" : undefined}>
              {VIEWS[view][0]}
            </a>
          ))}
        </nav>
        {token() ? (
          <button
            type="button"
            class="plain"
            onClick={() => {
              setToken("");
              setSession(session + 1);
            }}
          >
            Forget the token
          </button>
        ) : null}
      </header>
      <main id="main" tabindex="-1" ref={main}>
        <View key={`${route.view}/${route.id}/${session}`} route={route} />
      </main>
      {needed ? (
        <TokenDialog
          refused={Boolean(token())}
          onDone={() => {
            setNeeded(false);
            setSession(session + 1);
          }}
        />
      ) : null}
    </>
  );
}

render(<App />, document.getElementById("app"));
