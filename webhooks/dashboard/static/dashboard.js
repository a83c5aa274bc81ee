/* What a page cannot do without: nothing. This adds keys, copying, a theme, peeking and live updates. */
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.remove("no-js");
  const store = {
    get(key) { try { return localStorage.getItem("webhooks." + key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem("webhooks." + key, value); } catch { /* private window */ } },
  };
  if (store.get("theme")) root.dataset.theme = store.get("theme");
  const on = (type, listen) => document.addEventListener(type, listen);
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // -- theme, copying
  function turnTheme() {
    const isDark = (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    store.set("theme", root.dataset.theme);
  }
  async function copy(button) {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // plain http has no clipboard: select the text, so that Ctrl-C takes it
      const area = Object.assign(document.createElement("textarea"), { value: text, className: "vh" });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1200);
  }
  const presses = {
    copy,
    themeButton: turnTheme,
    pause() { setLive(!isLive); },
    keys() { find("#keys").showModal(); },
    peek(button) { peek(button.closest("tr")); },
    fresh(button) { button.hidden = true; scrollTo(0, 0); button.closest("[data-live]").dispatchEvent(new CustomEvent("poll")); },
  };
  on("click", (event) => {
    const button = event.target.closest("button");
    for (const name in presses) if (button?.dataset[name] !== undefined) presses[name](button);
  });

  // -- live updates: each section with data-live hears the event poll, unless one reads in it
  let isLive = store.get("live") !== "off";
  let lastSign = Date.now();
  let misses = 0;
  function setLive(wanted) { isLive = wanted; store.set("live", wanted ? "on" : "off"); showLive(); }
  function showLive() {
    const sign = find("[data-state]");
    if (!sign) return;
    const button = find("[data-pause]");
    sign.hidden = button.hidden = !find("[data-live]");
    button.setAttribute("aria-pressed", String(!isLive));
    sign.classList.toggle("off", !isLive);
    sign.classList.toggle("bad", isLive && misses > 0);
    sign.textContent = !isLive ? "Paused" : misses ? "No answer, trying again" : `Live, every ${document.body.dataset.interval} s`;
  }
  for (const type of ["keydown", "pointermove", "scroll"]) addEventListener(type, () => { lastSign = Date.now(); }, { passive: true });
  function isRead(section) {
    const selected = getSelection();
    return (selected && !selected.isCollapsed && section.contains(selected.anchorNode))
      || find("input:checked, details[data-hold][open], .drop[open]", section) !== null
      || (section.dataset.hold !== undefined && (section.matches(":hover, :focus-within") || scrollY > 200));
  }
  // how many rows came since, said on a button; they are not put under one's eyes
  async function countFresh(section) {
    const button = find("[data-fresh]", section);
    if (!button) return;
    const answer = await fetch(section.getAttribute("hx-get"), { headers: JSON.parse(section.getAttribute("hx-headers")) });
    if (answer.status !== 200) return;
    const rows = all(`#${section.id} a[data-row]`, new DOMParser().parseFromString(await answer.text(), "text/html"));
    const known = new Set(all("a[data-row]", section).map((link) => link.href));
    const fresh = rows.filter((link) => !known.has(link.href)).length;
    button.hidden = !fresh;
    button.textContent = `${fresh}${fresh === rows.length ? "+" : ""} new`;
  }
  function poll() {
    const isQuiet = Date.now() - lastSign > 15 * 60e3;
    if (isLive && !document.hidden && !find("dialog[open]")) {
      // one after the other: the first has the page made, the others get the same
      all("[data-live]").forEach((section, number) => setTimeout(() => {
        if (isRead(section)) countFresh(section).catch(() => {});
        else section.dispatchEvent(new CustomEvent("poll"));
      }, number * 120));
    }
    setTimeout(poll, (isQuiet || misses ? 30 : Number(document.body.dataset.interval)) * 1000);
  }
  on("htmx:error", () => { misses += 1; showLive(); });
  on("htmx:after:request", (event) => {
    const status = event.detail?.ctx?.response?.status;
    misses = status >= 400 || status === undefined ? misses + 1 : 0;
    showLive();
  });
  on("htmx:after:swap", showLive);

  // -- rows: the next one, what is in it, its menu
  const rowLinks = () => all("tbody tr a[data-row]");
  const row = () => document.activeElement.closest?.("tr") || rowLinks()[0]?.closest("tr");
  function step(by) {
    const links = rowLinks();
    const here = links.indexOf(find("a[data-row]", document.activeElement.closest?.("tr") || root.firstElementChild));
    links[Math.max(0, Math.min(links.length - 1, here + by))]?.focus();
  }
  async function peek(line) {
    const address = line && find("a[data-row]", line)?.href;
    const old = find("#peek");
    const pane = find("[data-peeks]");
    old?.remove();
    pane?.classList.remove("peeking");
    if (!address || !pane || old?.dataset.of === address) return;
    const answer = await fetch(address);
    const part = find(pane.dataset.peeks, new DOMParser().parseFromString(await answer.text(), "text/html"));
    if (!part || find("#peek")) return;
    const side = Object.assign(document.createElement("aside"), { id: "peek" });
    side.setAttribute("aria-label", "Peek");
    side.dataset.of = address;
    for (const name of ["data-live", "hx-get", "hx-trigger"]) part.removeAttribute(name);
    side.append(part);
    pane.append(side);
    pane.classList.add("peeking");
    document.dispatchEvent(new CustomEvent("shown"));
  }

  // -- keys
  const keys = {
    "/": () => find("#q")?.select(),
    "?": () => find("#keys").showModal(),
    t: turnTheme,
    r: () => setLive(!isLive),
    w: () => (find("[data-windows] [aria-current] + a") || find("[data-windows] a"))?.click(),
    "[": () => find("[rel=next]")?.click(),
    "]": () => find("[rel=prev]")?.click(),
    c: () => find(".cmd [data-copy]")?.click(),
    j: () => step(1),
    k: () => step(-1),
    x: () => row() && find("input", row())?.click(),
    p: () => peek(row()),
    ".": () => row() && find("details.drop > summary", row())?.click(),
    Escape() {
      for (const menu of all("details.drop[open]")) menu.open = false;
      if (find("#peek")) peek(null);
    },
  };
  let afterG = 0;
  on("keydown", (event) => {
    // a dialog that was closed keeps the focus until the next frame, so what is not shown is not typed into
    const field = event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey || field?.getClientRects().length || store.get("keys") === "off") return;
    const key = event.key;
    const place = Date.now() - afterG < 1500 && find(`[data-go="${CSS.escape(key)}"]`);
    if (place) { location.href = place.href; return; }
    afterG = key === "g" ? Date.now() : 0;
    if (Object.hasOwn(keys, key)) {
      if (key === "/") event.preventDefault();
      keys[key]();
    }
  });

  on("DOMContentLoaded", () => {
    showLive();
    setTimeout(poll, Number(document.body.dataset.interval) * 1000);
    const off = find("[data-keys-off]");
    off.checked = store.get("keys") === "off";
    off.addEventListener("change", () => store.set("keys", off.checked ? "off" : "on"));
  });
})();
