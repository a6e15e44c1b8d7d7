// The demo page in a browser, once for each transport: connects, says something and sees it, hears what others say; and finds back when the gateway was restarted.
//
//     node browser_client.cjs PAGE SCREENSHOT TRANSPORT...
//
// PAGE is the URL of the page, TRANSPORT is `ws` or one of SockJS' names. Lines come out: `connected`, then `heard` when every page has what was sent to its topic
// `demo/TRANSPORT` meanwhile (`to TRANSPORT`), and a line is awaited; after it the gateway is to be another one: `done` when all pages are connected again.

const { chromium } = require("playwright-core");
const { createInterface } = require("node:readline");

const [url, screenshot, ...transports] = process.argv.slice(2);
const TIME = 60000;
/** What the pages complained of: told if something fails. */
const complaints = [];

/** Waits until the list of messages has this. */
const shows = (page, text) => page.locator("#messages span", { hasText: text }).first().waitFor({ timeout: TIME });

async function open(browser, transport) {
  // Pages of one context share the few connections that a browser has for one host.
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${transport}: ${error}`));
  page.on("console", (line) => complaints.push(`${transport}: ${line.text()}`));
  await page.goto(`${url}?transport=${transport}`);
  await page.fill("#topic", `demo/${transport}`);
  await page.fill("#name", transport);
  await page.click("#connect");
  await page.locator("#state.connected").waitFor({ timeout: TIME });
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#send");
  await shows(page, text);
}

async function main() {
  const browser = await chromium.launch({
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
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const pages = [];
  for (const transport of transports) {
    pages.push([transport, await open(browser, transport)]);
  }
  for (const [transport, page] of pages) {
    await say(page, `from ${transport}`);
  }
  console.log("connected");
  for (const [transport, page] of pages) {
    await shows(page, `to ${transport}`);
  }
  console.log("heard");
  await lines.next();
  for (const [transport, page] of pages) {
    // It may not know yet that its connection is gone: what it says then is lost, as QoS 0 may be.
    await page.locator("#state[data-connections='2']").waitFor({ timeout: TIME });
    await say(page, `again ${transport}`);
  }
  await pages[0][1].screenshot({ path: screenshot });
  // What is refused stays to be read, after the page is disconnected; and the hint is about the topic.
  const page = pages[0][1];
  await page.fill("#topic", "$SYS/forged");
  await page.fill("#text", "refused");
  await page.click("#send");
  await page.locator("#error", { hasText: "not authorized to send to `$SYS/forged`" }).waitFor({ timeout: TIME });
  await page.locator("#state", { hasText: "not connected" }).waitFor({ timeout: TIME });
  await page.locator("#hint", { hasText: "'$SYS/forged'" }).waitFor({ timeout: TIME });
  await browser.close();
  console.log("done");
  process.exit(0);
}

main().catch((error) => {
  console.error([...complaints, error.stack].join("\n"));
  process.exit(1);
});
