// ------------------------------------------------------------------------------------------------- results table

/** Sort the rows of each body of a table by a column of it. */
function sortTable(table, column, descending) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  const key = (row) => row.cells[column].dataset.key;
  const numeric = rows.every((row) => key(row) === undefined || key(row) === "" || !isNaN(Number(key(row))));
  for (const body of table.tBodies) {
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // what is missing comes last
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
      return descending ? -order : order;
    }));
  }
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    cell.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending");
  });
}

for (const table of [byId("matrix"), byId("table")]) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () => {
      const now = cell.getAttribute("aria-sort");
      // Numbers are first wanted from the largest, names and ranks from the first.
      const largest = cell.classList.contains("number") && !cell.classList.contains("rank");
      sortTable(table, column, now === "none" ? largest : now === "ascending");
    });
  });
}

const tableRows = [...byId("table").tBodies[0].rows];

function filterTable() {
  const task = byId("table-task") ? byId("table-task").value : "";
  const text = byId("table-text").value.trim().toLowerCase();
  let shown = 0;
  for (const row of tableRows) {
    row.hidden = (task && row.dataset.task !== task) || !row.textContent.toLowerCase().includes(text);
    shown += !row.hidden;
  }
  byId("table-count").textContent = `${shown} ${shown === 1 ? "row" : "rows"}`;
}

for (const id of ["table-task", "table-text"]) onEdit(byId(id), filterTable);
