// Pure functions of the UI, by Node's own test runner.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bridgeToml } from "./bridgetoml.ts";
import { diff } from "./diff.ts";
import { kindOf, lastOf } from "./certificates.ts";
import { instancesOf, linked, pathOf, rowsOf, withUnit } from "./lwm2m.ts";
import { hex, pretty } from "./payload.ts";
import { countRules, insertRule, raiseRule, removeRule } from "./ruletext.ts";
import { quoted } from "./toml.ts";
import type { Certificate, Lwm2mObject, Lwm2mResource } from "./types.ts";
import { TopicTree } from "./topictree.ts";
import { cut, visible, visibleLines } from "./visible.ts";

test("what does not show, or turns the text around it, is written out", () => {
  assert.equal(visible("a\u202eb"), "a⟨U+202E⟩b");
  assert.equal(visible("\u0000\n\u007f\u200d\u2066"), "⟨U+0000⟩⟨U+000A⟩⟨U+007F⟩⟨U+200D⟩⟨U+2066⟩");
  assert.equal(visible("\ud800x"), "⟨U+D800⟩x");
  assert.equal(visible("<b>温度 🌡</b>"), "<b>温度 🌡</b>");
  assert.equal(visible("\u{e0041}"), "⟨U+E0041⟩");
  assert.equal(visibleLines("a\r\n\tb\u202e"), "a\n\tb⟨U+202E⟩");
});

test("a long name is cut between characters", () => {
  assert.deepEqual(cut("abc", 3), { shown: "abc", more: false });
  const { shown, more } = cut("🌡".repeat(100), 5);
  assert.ok(more && shown.length <= 6);
});

test("a difference shows what changed and what is near", () => {
  const before = Array.from({ length: 20 }, (_, at) => `line ${at}`).join("\n");
  const lines = diff(before, before.replace("line 10", "line ten"));
  assert.deepEqual(
    lines.filter(({ kind }) => kind === "added" || kind === "removed"),
    [
      { kind: "removed", text: "line 10" },
      { kind: "added", text: "line ten" },
    ],
  );
  assert.equal(lines.length, 2 + 6 + 2);
  assert.deepEqual(diff(before, before), []);
});

test("a section that is added is shown from its beginning", () => {
  const section = "[[a]]\nx = 1\n\n";
  const added = "[[a]]\nx = 1\ny = 2\n\n";
  const shown = diff(`n = 1\n${section}`, `n = 1\n${added}${section}`).filter(({ kind }) => kind === "added");
  assert.deepEqual(
    shown.map(({ text }) => text),
    ["[[a]]", "x = 1", "y = 2", ""],
  );
});

test("texts of TOML are escaped", () => {
  assert.equal(quoted('a"b\\c\n'), '"a\\"b\\\\c\\u000a"');
});

test("a bridge of the form is a section", () => {
  const toml = bridgeToml({
    name: "cloud",
    address: "mqtts://a:8883, mqtts://b",
    version: "mqttv50",
    username: "u",
    password: 'p"',
    ca: "",
    certificate: "",
    key: "",
    topics: [{ filter: "sensors/#", direction: "out", qos: 1, local: "", remote: "plant/" }],
  });
  assert.equal(
    toml,
    'name = "cloud"\naddresses = ["mqtts://a:8883", "mqtts://b"]\nversion = "mqttv50"\ntopics = [\n  "sensors/# out 1 \\"\\" plant/",\n]\nlogin = { username = "u", password = "p\\"" }\n',
  );
});

test("rules change in the text, and nothing else does", () => {
  const rule = { effect: "deny", action: "publish", user: "u", client: "", address: "", topics: ["a/#"] } as const;
  const text = 'node = "a"\n\n[[auth.acl]]\neffect = "allow" # one\n\n[[auth.acl]]\neffect = "deny"\n\n[store]\nx = 1\n';
  assert.equal(countRules(text), 2);
  const first = insertRule(text, { ...rule, topics: ["a/#"] }, 0);
  const written = '[[auth.acl]]\neffect = "deny"\naction = "publish"\nuser = "u"\ntopics = ["a/#"]\n\n';
  assert.equal(first, text.replace("[[auth.acl]]", `${written}[[auth.acl]]`));
  assert.equal(removeRule(first, 0), text);
  assert.equal(countRules(insertRule(text, { ...rule, topics: [] }, 2)), 3);
  assert.equal(
    raiseRule(text, 1),
    'node = "a"\n\n[[auth.acl]]\neffect = "deny"\n\n[[auth.acl]]\neffect = "allow" # one\n\n[store]\nx = 1\n',
  );
  // Where there is none, the rules that were valid by default go along.
  assert.equal(countRules(insertRule('node = "a"\n', { ...rule, topics: [] }, 0)), 4);
});

test("topics become a tree, also those with empty levels", () => {
  const tree = new TopicTree();
  const value = { payload: "1", bytes: 1, retain: false, at: 1 };
  for (const topic of ["a/b", "a//c", "/"]) tree.add(topic, value);
  assert.equal(tree.topics, 3);
  assert.equal(tree.find("a")?.seen, 2);
  assert.equal(tree.find("a//c")?.last, value);
  assert.equal(tree.find("__proto__"), undefined);
});

test("resources are those that are defined, that were told of, and that have values", () => {
  const resource = { id: 9, name: "Battery Level" } as Lwm2mResource;
  const device = { id: 3, name: "Device", resources: [resource] } as Lwm2mObject;
  const [known, unknown] = instancesOf(["/3/0", "/32769/0"], [device]);
  assert.equal(known?.definition?.name, "Device");
  assert.equal(unknown?.definition, undefined);
  const values = new Map([
    ["/3/0/7/10", { value: 5 }],
    ["/3/0/7/2", { value: 3 }],
    ["/3/01/1", { value: 1 }],
  ]);
  const rows = rowsOf(known!, values, new Set(["/3/0/4", "/32769/0/1"]));
  assert.deepEqual(
    rows.map(({ path, definition, values }) => [path, definition?.name, values.map(([at]) => at)]),
    [
      ["/3/0/4", undefined, []],
      ["/3/0/7", undefined, ["/3/0/7/2", "/3/0/7/10"]],
      ["/3/0/9", "Battery Level", []],
    ],
  );
});

test("paths are found in topics and links", () => {
  assert.equal(pathOf("lwm2m/a/3/0/9", "a"), "/3/0/9");
  assert.equal(pathOf("lwm2m/a/3/0/7/1", "a"), "/3/0/7/1");
  assert.equal(pathOf("lwm2m/a/up/resp", "a"), null);
  assert.equal(pathOf("lwm2m/b/3/0/9", "a"), null);
  assert.equal(linked("</3/0/9>;pmin=5"), "/3/0/9");
  assert.equal(linked("</3/0>"), null);
  assert.equal(withUnit("21.5", "Cel"), "21.5 °C");
  assert.equal(withUnit("5", ""), "5");
});

test("certificates are told apart by who has signed them", () => {
  const ca = { name: "ca", subject: "CN=CA", issuer: "CN=CA" } as Certificate;
  const issued = { name: "served", subject: "CN=a", issuer: "CN=CA" } as Certificate;
  const other = { name: null, subject: "CN=b", issuer: "CN=b" } as Certificate;
  const all = [ca, issued, other];
  assert.deepEqual(all.map((one) => kindOf(one, all)), ["ca", "issued", "other"]);
  assert.equal(kindOf(issued, [issued]), "other");
  assert.equal(lastOf("-----BEGIN A\n-----BEGIN B\n"), "-----BEGIN B\n");
});

test("payloads as people read them", () => {
  assert.equal(hex("AAH/"), "00 01 ff");
  assert.equal(pretty('{"a":1}'), '{\n  "a": 1\n}');
  assert.equal(pretty("{no"), "{no");
});
