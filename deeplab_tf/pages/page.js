
"use strict";

// Tables: a click on a heading sorts the rows by it, a second click the other way around.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table");
    const column = heading.cellIndex, body = table.tBodies[0];
    const numeric = body.rows[0]?.cells[column].dataset.value !== undefined;
    const before = heading.getAttribute("aria-sort");
    // Numbers begin with the largest, names with A.
    const ascending = before ? before === "descending" : !numeric;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const compare = (one, other) => {
      const a = key(one), b = key(other);
      if (!numeric) return (ascending ? 1 : -1) * a.localeCompare(b);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return ascending ? a - b : b - a;
    };
    body.append(...[...body.rows].sort(compare));
  });
}

// How strongly layers cover their images.
const opacity = document.getElementById("opacity");
opacity?.addEventListener("input", () => {
  document.documentElement.style.setProperty("--opacity", opacity.value / 100);
});

function parsed(id) {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
}

// The pixels of a picture, [r, g, b, a] each. It is embedded, so reading it is allowed.
function pixelsOf(picture) {
  if (!picture.pixels) {
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    picture.pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  }
  return picture.pixels;
}

// Where in a picture a pointer is: 0 up to, but not, 1 in both directions.
function place(event, element) {
  const box = element.getBoundingClientRect(), least = 1 - 1e-9;
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    .map((share) => Math.min(Math.max(share, 0), least));
}

// Images with layers.
const classesOfColor = parsed("classes-of-color");
for (const example of document.querySelectorAll(".example")) {
  const stack = example.querySelector(".stack"), readout = example.querySelector("output");
  const buttons = [...example.querySelectorAll(".layers button")];
  const show = (chosen) => {
    for (const button of buttons) button.setAttribute("aria-pressed", button === chosen);
    for (const layer of stack.querySelectorAll("img[data-layer]")) {
      layer.classList.toggle("on", layer.dataset.layer === chosen.dataset.layer);
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  const read = (event) => {
    const [x, y] = place(event, stack), found = [];
    for (const layer of stack.querySelectorAll("img[data-reads]")) {
      const { width, height, data } = pixelsOf(layer);
      const at = 4 * (Math.floor(y * height) * width + Math.floor(x * width));
      const color = [data[at], data[at + 1], data[at + 2]].join();
      found.push(`${layer.dataset.reads}: ${data[at + 3] ? classesOfColor[color] : "void"}`);
    }
    readout.textContent = found.join(" · ");
  };
  stack.addEventListener("pointermove", read);
  stack.addEventListener("pointerdown", (event) => {
    read(event);
    stack.classList.add("bare");
  });
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) {
    stack.addEventListener(name, () => stack.classList.remove("bare"));
  }
  stack.addEventListener("pointerleave", () => { readout.textContent = ""; });
  stack.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === " ") stack.classList.add("bare");
    else if (step === undefined) return;
    else {
      const now = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
      show(buttons[(now + step + buttons.length) % buttons.length]);
    }
    event.preventDefault();
  });
  for (const name of ["keyup", "blur"]) {
    stack.addEventListener(name, () => stack.classList.remove("bare"));
  }
}

// A confusion matrix that is a picture: which cell the pointer is at.
const heat = document.querySelector(".heat"), shares = parsed("confusion-shares");
if (heat && shares) {
  const readout = document.getElementById("confusion-cell"), names = shares.names;
  const read = (event) => {
    const [x, y] = place(event, heat).map((share) => Math.floor(share * names.length));
    const share = shares.permille[y][x];
    readout.textContent = share === null
      ? `${names[y]} is in no label`
      : `${share / 10} % of the pixels of ${names[y]} are predicted as ${names[x]}`;
  };
  heat.addEventListener("pointermove", read);
  heat.addEventListener("pointerdown", read);
}

// Predictions of a folder: those with one class alone.
const filter = document.getElementById("class-filter");
filter?.addEventListener("click", (event) => {
  const chosen = event.target.closest("button");
  if (!chosen) return;
  const on = chosen.getAttribute("aria-pressed") !== "true";
  for (const button of filter.children) button.setAttribute("aria-pressed", on && button === chosen);
  let shown = 0;
  for (const card of document.querySelectorAll("#predictions .card")) {
    const found = ` ${card.dataset.shares}`.match(new RegExp(` ${chosen.dataset.class}:([0-9.]+)`));
    card.hidden = on && !found;
    card.style.order = on && found ? -Math.round(1e4 * found[1]) : "";
    // The class may not be among the largest, which the caption lists.
    const share = card.querySelector(".chosen");
    share.hidden = !(on && found);
    if (found) share.textContent = `${chosen.dataset.name} ${(100 * found[1]).toFixed(1)} %`;
    shown += !card.hidden;
  }
  const status = document.getElementById("filtered");
  status.textContent = on ? `${shown} of ${status.dataset.all}` : status.dataset.all;
});
