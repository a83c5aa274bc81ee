/* Completion of the search box; without it the box is a box. `dashboard.js` has the rest. */
"use strict";
(() => {
  const store = {
    get(key) { try { return localStorage.getItem("webhooks." + key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem("webhooks." + key, value); } catch { /* private window */ } },
  };

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

  document.addEventListener("DOMContentLoaded", () => {
    const box = document.querySelector("#q[data-complete]");
    if (box) complete(box);
  });
})();
