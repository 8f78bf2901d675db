"use strict";
(() => {
  // ---- tables: a click on a column's head sorts by it ----
  const number = new Intl.Collator(undefined, { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  function sortRows(table, column, descending) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((first, second) => {
      const a = key(first, column), b = key(second, column);
      if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last, either way
      const both = a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
      const order = both ? a - b : number.compare(a, b);
      return descending ? -order : order;
    });
    body.append(...rows);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // Figures are most wanted from the top, names from A.
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        sortRows(table, column, order === "descending");
      });
    });
  }
})();
