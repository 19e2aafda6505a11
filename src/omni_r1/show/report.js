// Filters, kept in the address after `#`, and pictures enlarged on demand. The page reads without any of it.
"use strict";

const form = document.getElementById("filters");
const rows = Array.from(document.querySelectorAll("article.row"));
const count = document.getElementById("count");
const clear = form.querySelector("button[type=reset]");
const texts = new Map();

function textOf(row) {
  if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
  return texts.get(row);
}

function chosen() {
  const values = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) values.set(name, value.trim());
  return values;
}

function show() {
  const values = chosen();
  const query = (values.get("q") || "").toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits = ["task", "verdict", "steps"].every((key) => !values.has(key) || row.dataset[key] === values.get(key));
    row.hidden = !(fits && (!query || textOf(row).includes(query)));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length}`;
  clear.hidden = !values.size;
  document.getElementById("none").hidden = shown > 0;
}

function fromAddress() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && !target.hidden) return; // a place on the page as it is
  for (const field of form.elements) if (field.type === "radio") field.checked = field.value === "";
  form.elements.namedItem("q").value = "";
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    const field = form.elements.namedItem(name);
    if (field && "value" in field) field.value = value;
  }
  show();
  if (target) target.scrollIntoView();
}

function toAddress() {
  show();
  const values = chosen().toString();
  history.replaceState(null, "", values ? `#${values}` : location.pathname + location.search);
}

form.addEventListener("input", toAddress);
form.addEventListener("reset", () => setTimeout(toAddress));
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", fromAddress);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input[type=search]")) return;
  event.preventDefault();
  form.elements.namedItem("q").focus();
});

const large = document.getElementById("large");
addEventListener("click", (event) => {
  const button = event.target.closest("button.zoom");
  if (button) {
    const [picture, copy] = [button.querySelector("img"), large.querySelector("img")];
    copy.src = picture.src;
    copy.alt = picture.alt;
    copy.className = picture.className;
    large.querySelector("p").textContent = picture.alt;
    large.showModal();
  } else if (event.target.closest("dialog")) {
    large.close();
  }
});

form.hidden = false;
fromAddress(); // what the address asks for, or else what a reload kept in the fields
if (!location.hash) show();
