// Light and dark: as the system has it, or by the switch.

export type Theme = "system" | "light" | "dark";
const STORED = "headgate.theme";

function stored(): Theme {
  const value = localStorage.getItem(STORED);
  return value === "light" || value === "dark" ? value : "system";
}

const state = $state<{ theme: Theme; dark: boolean }>({ theme: stored(), dark: false });
const system = matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", applyTheme);

export function theme(): Theme {
  return state.theme;
}

export function isDark(): boolean {
  return state.dark;
}

export function applyTheme(): void {
  state.dark = state.theme === "dark" || (state.theme === "system" && system.matches);
  document.documentElement.dataset.theme = state.dark ? "dark" : "light";
}

export function setTheme(wanted: Theme): void {
  state.theme = wanted;
  if (wanted === "system") localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, wanted);
  applyTheme();
}
