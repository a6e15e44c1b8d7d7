import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { loadLocale } from "./lib/i18n.svelte.ts";
import { applyTheme } from "./lib/theme.svelte.ts";

applyTheme();
await loadLocale();
mount(App, { target: document.getElementById("app")! });
