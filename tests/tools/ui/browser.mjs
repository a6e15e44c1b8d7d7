// Chromium as Debian has it, and what is looked at on every page: complaints of the console, axe, room at 360 px.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

/** No step of a page takes longer, however slow the machine is. */
const PATIENCE = 30_000;
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What axe calls these is what the issue calls a serious fault. */
const SERIOUS = ["serious", "critical"];
/** A request that is refused on purpose is told by the browser, too. */
const EXPECTED = /Failed to load resource: the server responded with a status of (401|403|404|409|422|429)/;

export function launch() {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A browser of its own, as far as cookies and settings go. `complaints` has what it and its pages said that they should not. */
export async function open(browser, { locale = "en-US", theme = "light", width = 1280, height = 800 } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    locale,
    timezoneId: "Europe/Berlin",
    acceptDownloads: true,
  });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (line) => {
    if (line.type() === "error" && !EXPECTED.test(line.text())) complaints.push(`console: ${line.text()}`);
  });
  return { context, page, complaints };
}

/** Faults of accessibility that axe finds on the page as it is. */
export async function accessibilityFaults(page) {
  // By the debugger, which the page's policy does not bind.
  await page.evaluate(`${AXE};0`);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => SERIOUS.includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html }) => html).join(" | ")}`);
}

/** Pixels by which the page is wider than its window. */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
