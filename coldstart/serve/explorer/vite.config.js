import { defineConfig } from "vite";

export default defineConfig({
  base: "/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    assetsDir: "assets",
    assetsInlineLimit: 0, // the page's policy takes scripts and styles from files only
    modulePreload: false,
    target: "es2022",
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8123" } },
});
