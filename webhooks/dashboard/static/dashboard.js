/* What a page cannot do without: nothing. This adds keys, copying, a theme and live updates. */
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
  const find = (selector) => document.querySelector(selector);

  // -- theme, copying, the list of keys
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
  on("click", (event) => {
    const button = event.target.closest("[data-copy], [data-theme-button], [data-pause], [data-keys]");
    if (!button) return;
    if (button.dataset.copy !== undefined) copy(button);
    else if (button.dataset.themeButton !== undefined) turnTheme();
    else if (button.dataset.pause !== undefined) setLive(!isLive);
    else find("#keys").showModal();
  });

  // -- live updates: each section with data-live hears the event poll, unless one reads in it
  let isLive = store.get("live") !== "off";
  let lastSign = Date.now();
  let misses = 0;
  function setLive(wanted) { isLive = wanted; store.set("live", wanted ? "on" : "off"); showLive(); }
  function showLive() {
    const sign = find("[data-state]");
    if (!sign) return;
    const hasAny = find("[data-live]") !== null;
    sign.hidden = !hasAny;
    const button = find("[data-pause]");
    button.hidden = !hasAny;
    button.setAttribute("aria-pressed", String(!isLive));
    sign.classList.toggle("off", !isLive);
    sign.classList.toggle("bad", isLive && misses > 0);
    sign.textContent = !isLive ? "Paused" : misses ? "No answer, trying again" : `Live, every ${document.body.dataset.interval} s`;
  }
  for (const type of ["keydown", "pointermove", "scroll"]) addEventListener(type, () => { lastSign = Date.now(); }, { passive: true });
  function isRead(section) {
    const selected = getSelection();
    return (selected && !selected.isCollapsed && section.contains(selected.anchorNode))
      || section.querySelector("input:checked, details[data-hold][open]") !== null
      || (section.dataset.hold !== undefined && (section.matches(":hover") || scrollY > 200));
  }
  function poll() {
    const isQuiet = Date.now() - lastSign > 15 * 60e3;
    if (isLive && !document.hidden && !find("dialog[open]")) {
      // one after the other: the first has the page made, the others get the same
      [...document.querySelectorAll("[data-live]")].filter((section) => !isRead(section))
        .forEach((section, number) => setTimeout(() => section.dispatchEvent(new CustomEvent("poll")), number * 120));
    }
    setTimeout(poll, (isQuiet || misses ? 30 : Number(document.body.dataset.interval)) * 1000);
  }
  on("htmx:error", () => { misses += 1; showLive(); });
  on("htmx:after:request", (event) => {
    const status = event.detail?.ctx?.response?.status;
    misses = status >= 500 || status === undefined ? misses + 1 : 0;
    showLive();
  });
  on("htmx:after:swap", showLive);

  // -- keys
  let afterG = 0;
  on("keydown", (event) => {
    // a dialog that was closed keeps the focus until the next frame, so what is not shown is not typed into
    const field = event.target.closest?.("input, textarea, select, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey || field?.getClientRects().length || store.get("keys") === "off") return;
    const key = event.key;
    if (Date.now() - afterG < 1500 && find(`[data-go="${CSS.escape(key)}"]`)) { location.href = find(`[data-go="${CSS.escape(key)}"]`).href; return; }
    afterG = key === "g" ? Date.now() : 0;
    if (key === "/") { event.preventDefault(); find("#q")?.select(); }
    else if (key === "?") find("#keys").showModal();
    else if (key === "t") turnTheme();
    else if (key === "r") setLive(!isLive);
    else if (key === "[") find("[rel=next]")?.click();
    else if (key === "]") find("[rel=prev]")?.click();
    else if (key === "c") find(".cmd [data-copy]")?.click();
    else if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
  });
  function step(by) {
    const links = [...document.querySelectorAll("tbody tr a[data-row]")];
    if (!links.length) return;
    const here = links.indexOf(document.activeElement.closest?.("tr")?.querySelector("a[data-row]"));
    links[Math.max(0, Math.min(links.length - 1, here + by))].focus();
  }
  // -- completion of the box: a list below it, by arrow keys or pointer; what was searched before, where nothing is typed
  function complete(box) {
    const list = document.createElement("ul");
    Object.assign(list, { id: "suggestions", className: "suggestions", hidden: true });
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Suggestions");
    box.after(list);
    for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", "suggestions"], ["aria-expanded", "false"]]) box.setAttribute(name, value);
    let offered = [], at = -1, asked = 0, timer = 0;
    const recent = () => JSON.parse(store.get("recent") || "[]");
    function show(found) {
      [offered, at] = [found, -1];
      list.replaceChildren(...found.map((one, number) => {
        const item = document.createElement("li");
        item.id = `suggestion-${number}`;
        item.setAttribute("role", "option");
        item.append(Object.assign(document.createElement("span"), { className: "mono", textContent: one.text }), Object.assign(document.createElement("small"), { textContent: one.about }));
        item.addEventListener("mousedown", (event) => { event.preventDefault(); take(number); });
        return item;
      }));
      list.hidden = !found.length;
      box.setAttribute("aria-expanded", String(!list.hidden));
      box.removeAttribute("aria-activedescendant");
    }
    function mark(number) {
      list.children[at]?.removeAttribute("aria-selected");
      at = (number + offered.length) % offered.length;
      list.children[at].setAttribute("aria-selected", "true");
      list.children[at].scrollIntoView({ block: "nearest" });
      box.setAttribute("aria-activedescendant", `suggestion-${at}`);
    }
    function take(number) {
      const one = offered[number];
      box.setRangeText(one.text + (one.text.endsWith(":") || one.start === 0 && one.end === box.value.length && one.about === "searched before" ? "" : " "), one.start, one.end, "end");
      show([]);
      box.focus();
      ask();
    }
    async function ask() {
      const number = ++asked;
      if (!box.value) { show(recent().map((text) => ({ text, start: 0, end: 0, about: "searched before" }))); return; }
      try {
        const answer = await fetch(`${box.dataset.complete}?${new URLSearchParams({ q: box.value, at: box.selectionStart })}`);
        if (answer.ok && number === asked && document.activeElement === box) show(await answer.json());
      } catch { /* no suggestions */ }
    }
    box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 150); });
    box.addEventListener("focus", () => { if (!box.value) ask(); });
    box.addEventListener("blur", () => show([]));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { if (list.hidden) box.blur(); else { event.preventDefault(); show([]); } return; }
      if (list.hidden) return;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); mark(at < 0 && event.key === "ArrowUp" ? -1 : at + (event.key === "ArrowDown" ? 1 : -1)); }
      else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) { event.preventDefault(); take(at); }
    });
    box.form.addEventListener("submit", () => {
      const text = box.value.trim();
      if (text) store.set("recent", JSON.stringify([text, ...recent().filter((one) => one !== text)].slice(0, 10)));
    });
  }

  on("DOMContentLoaded", () => {
    if (find("#q[data-complete]")) complete(find("#q"));
    showLive();
    setTimeout(poll, Number(document.body.dataset.interval) * 1000);
    const off = find("[data-keys-off]");
    off.checked = store.get("keys") === "off";
    off.addEventListener("change", () => store.set("keys", off.checked ? "off" : "on"));
  });
})();
