"use strict";

// Numbers before texts, what is missing last.
function compare(a, b, direction) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (a === "-" || b === "-" || !a || !b) return (a === "-" || !a) - (b === "-" || !b);
  const both = !Number.isNaN(x) && !Number.isNaN(y);
  return direction * (both ? x - y : a.localeCompare(b, "en", { numeric: true }));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const opposite = { ascending: "descending", descending: "ascending" };
      const order = opposite[head.getAttribute("aria-sort")] || button.dataset.first;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const text = (row) => row.cells[head.cellIndex].textContent.trim();
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(text(a), text(b), order === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows);
      document.getElementById("sorted").textContent = `Sorted by ${button.textContent.trim()}, ${order}.`;
    });
  }
}

for (const place of document.querySelectorAll(".chart")) {
  const spec = JSON.parse(place.parentElement.querySelector(".spec").textContent);
  vegaEmbed(place, spec, { actions: false, renderer: "svg" });
}

// A link to a heading opens the details around it, in browsers that don't by themselves.
function open() {
  const target = document.getElementById(location.hash.slice(1));
  const around = target && target.closest("details");
  if (around && !around.open) {
    around.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", open);
open();
