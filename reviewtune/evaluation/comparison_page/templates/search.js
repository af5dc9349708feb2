
"use strict";
(() => {
  const form = document.getElementById("search");
  if (!form) return;
  const rows = [...document.querySelectorAll("#reviews tbody tr")];
  const texts = rows.map((row) => row.textContent.normalize("NFC").toLowerCase());
  const first = Number(form.dataset.first);
  const shown = document.getElementById("shown");
  const is = (row, arm, kind) => arm === "" || row.cells[first + Number(arm)].classList.contains(kind);
  const update = () => {
    const words = form.words.value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, number) => {
      const hit = words.every((word) => texts[number].includes(word))
        && (form.label.value === "" || row.dataset.l === form.label.value)
        && is(row, form.right.value, "r") && is(row, form.wrong.value, "w");
      row.hidden = !hit;
      count += hit;
    });
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
