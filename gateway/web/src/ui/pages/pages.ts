// All pages: where they stand in the navigation, who may see them, and where their code is. A page's code is loaded when it is looked at.

import type { Component } from "svelte";
import type { MessageKey } from "../lib/i18n.svelte.ts";
import type { Role } from "../lib/types.ts";

export interface PageEntry {
  id: string;
  title: MessageKey;
  role: Role;
  load: () => Promise<{ default: Component }>;
}

export const SECTIONS: { title: MessageKey; pages: PageEntry[] }[] = [
  {
    title: "nav.watch",
    pages: [
      { id: "overview", title: "page.overview", role: "viewer", load: () => import("./Overview.svelte") },
      { id: "devices", title: "page.devices", role: "viewer", load: () => import("./Devices.svelte") },
      { id: "topics", title: "page.topics", role: "viewer", load: () => import("./Topics.svelte") },
      { id: "bridges", title: "page.bridges", role: "viewer", load: () => import("./Bridges.svelte") },
      { id: "alarms", title: "page.alarms", role: "viewer", load: () => import("./Alarms.svelte") },
      { id: "log", title: "page.log", role: "viewer", load: () => import("./Log.svelte") },
    ],
  },
  {
    title: "nav.tools",
    pages: [
      { id: "websocket", title: "page.websocket", role: "viewer", load: () => import("./WebSocketTest.svelte") },
      { id: "traces", title: "page.traces", role: "operator", load: () => import("./Traces.svelte") },
    ],
  },
  {
    title: "nav.set",
    pages: [
      { id: "access", title: "page.access", role: "viewer", load: () => import("./Access.svelte") },
      { id: "listeners", title: "page.listeners", role: "viewer", load: () => import("./Listeners.svelte") },
      { id: "lines", title: "page.lines", role: "viewer", load: () => import("./Lines.svelte") },
      {
        id: "configuration",
        title: "page.configuration",
        role: "administrator",
        load: () => import("./Configuration.svelte"),
      },
    ],
  },
  {
    title: "nav.keep",
    pages: [
      { id: "backups", title: "page.backups", role: "administrator", load: () => import("./Backups.svelte") },
      {
        id: "administrators",
        title: "page.administrators",
        role: "administrator",
        load: () => import("./Administrators.svelte"),
      },
      { id: "firmware", title: "page.firmware", role: "viewer", load: () => import("./Firmware.svelte") },
      { id: "system", title: "page.system", role: "viewer", load: () => import("./System.svelte") },
    ],
  },
];

/** Those that are reached from others alone. */
const HIDDEN: PageEntry[] = [
  { id: "account", title: "page.account", role: "viewer", load: () => import("./Account.svelte") },
  { id: "wizard", title: "page.wizard", role: "administrator", load: () => import("./Wizard.svelte") },
  { id: "device", title: "page.device", role: "viewer", load: () => import("./Device.svelte") },
  { id: "bridge", title: "page.bridge", role: "viewer", load: () => import("./Bridge.svelte") },
  { id: "edit-bridge", title: "page.edit_bridge", role: "administrator", load: () => import("./EditBridge.svelte") },
];

const ALL = [...SECTIONS.flatMap((section) => section.pages), ...HIDDEN];

export function pageOf(id: string): PageEntry | undefined {
  return ALL.find((entry) => entry.id === id);
}

export function titleOf(id: string): MessageKey {
  return pageOf(id)?.title ?? "error.no_page";
}
