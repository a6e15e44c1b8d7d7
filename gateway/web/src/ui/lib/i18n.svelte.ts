// Texts in the language of the reader: chosen by the browser, or by the switch. Each language is a file of messages, loaded when it is wanted.

import type en from "../messages/en.json";

export type MessageKey = keyof typeof en;
type Messages = Record<MessageKey, string>;
type Params = Record<string, string | number>;

const LOADERS = {
  en: () => import("../messages/en.json"),
  "zh-CN": () => import("../messages/zh-CN.json"),
} satisfies Record<string, () => Promise<{ default: Messages }>>;

export type Locale = keyof typeof LOADERS;
export const LOCALES: { locale: Locale; name: string }[] = [
  { locale: "en", name: "English" },
  { locale: "zh-CN", name: "简体中文" },
];

const STORED = "headgate.locale";

class Language {
  locale = $state<Locale>("en");
  messages = $state.raw<Partial<Messages>>({});
  plurals = $derived(new Intl.PluralRules(this.locale));
}

const language = new Language();

/** The locale that is shown. */
export function locale(): Locale {
  return language.locale;
}

function preferred(): Locale {
  const stored = localStorage.getItem(STORED);
  const wanted = stored ? [stored] : navigator.languages;
  for (const tag of wanted) {
    if (tag.toLowerCase().startsWith("zh")) return "zh-CN";
    if (tag.toLowerCase().startsWith("en")) return "en";
  }
  return "en";
}

export async function loadLocale(wanted: Locale = preferred()): Promise<void> {
  language.messages = (await LOADERS[wanted]()).default;
  language.locale = wanted;
  document.documentElement.lang = wanted;
}

export async function setLocale(wanted: Locale): Promise<void> {
  localStorage.setItem(STORED, wanted);
  await loadLocale(wanted);
}

/** The text of a key, with `{name}` replaced. */
export function t(key: MessageKey, params: Params = {}): string {
  const text = language.messages[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole));
}

type Counted = MessageKey extends infer K ? (K extends `${infer Base}.other` ? Base : never) : never;

/** The text for a number of things: `key.one` or `key.other`, with `{n}` replaced. */
export function tn(key: Counted, n: number, params: Params = {}): string {
  const form = language.plurals.select(n) === "one" ? "one" : "other";
  const shown = new Intl.NumberFormat(language.locale).format(n);
  return t(`${key}.${form}` as MessageKey, { n: shown, ...params });
}

/** The text for a word of the API, or the word itself if there is none. */
export function word(prefix: string, value: string): string {
  const key = `${prefix}.${value.replaceAll(" ", "_")}` as MessageKey;
  return language.messages[key] ?? value.replaceAll("_", " ");
}
