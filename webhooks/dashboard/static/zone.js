/* Times of day in this browser's zone, where that is chosen; without it they are UTC. */
"use strict";
(() => {
  const all = (selector) => document.querySelectorAll(selector);
  let isLocal = false;
  try { isLocal = localStorage.getItem("webhooks.zone") === "local"; } catch { /* private window */ }
  function showZone() {
    for (const time of all("time[data-clock]")) {
      const utc = time.dataset.utc ??= time.textContent;
      const local = new Date(time.dateTime).toLocaleString("sv"); // as ISO has it
      const from = /^\d{4}-/.test(utc) ? 0 : 11;
      time.textContent = isLocal ? local.slice(from, time.dataset.clock === "minute" ? 16 : 19) : utc;
    }
    const name = new Intl.DateTimeFormat([], { timeZoneName: "short" }).formatToParts().find((part) => part.type === "timeZoneName").value;
    for (const zone of all("[data-zone]")) zone.textContent = isLocal ? name : "UTC";
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-zone-button]")) return;
    isLocal = !isLocal;
    try { localStorage.setItem("webhooks.zone", isLocal ? "local" : "utc"); } catch { /* private window */ }
    showZone();
  });
  for (const type of ["DOMContentLoaded", "htmx:after:swap", "shown"]) document.addEventListener(type, showZone);
})();
