// Sorting, cells read in words, and boxes that scroll by keyboard. Without it the pages still show everything.
"use strict";

function sortable(table) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const compare = (one, other) => {
    if (one === "–" || other === "–") return 0; // sorted out below
    return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const missing = (row) => value(row, column) === "–";
      const rows = [...body.rows].sort(
        (a, b) => missing(a) - missing(b) || sign * compare(value(a, column), value(b, column)),
      );
      body.append(...rows);
    });
  });
}

function matrix(table) {
  const readout = table.closest("details").querySelector(".readout");
  const cells = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("td[title]")]);
  table.setAttribute("role", "grid");
  cells.forEach((row, r) => row.forEach((cell, c) => {
    cell.setAttribute("aria-label", cell.title); // the words, for those who cannot point; a tooltip would say them twice
    cell.removeAttribute("title");
    cell.tabIndex = r + c === 0 ? 0 : -1; // one stop of the Tab key per table
    const tell = () => { readout.textContent = cell.getAttribute("aria-label"); };
    cell.addEventListener("mouseover", tell);
    cell.addEventListener("focus", () => {
      for (const other of cells.flat()) other.tabIndex = -1;
      cell.tabIndex = 0;
      tell();
    });
    cell.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const places = { Home: [r, 0], End: [r, row.length - 1] };
      const step = steps[event.key];
      const [toRow, toColumn] = step ? [r + step[0], c + step[1]] : places[event.key] ?? [-1, -1];
      const target = cells[toRow]?.[toColumn];
      if (step || places[event.key]) event.preventDefault();
      if (target) target.focus();
    });
  }));
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("table.matrix").forEach(matrix);
for (const box of document.querySelectorAll(".scroll, pre")) {
  new ResizeObserver(() => {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (!scrolls) return box.removeAttribute("tabindex");
    box.tabIndex = 0;
    const caption = box.querySelector("caption");
    if (!caption) return;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption.textContent);
  }).observe(box);
}
