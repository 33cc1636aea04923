"use strict";

const unfold = document.getElementById("unfold");
const migrations = document.querySelectorAll("details.migration");
unfold.hidden = migrations.length === 0;
unfold.addEventListener("click", () => {
  const open = unfold.getAttribute("aria-pressed") !== "true";
  unfold.setAttribute("aria-pressed", String(open));
  unfold.textContent = open ? "Fold all" : "Unfold all";
  migrations.forEach((one) => { one.open = open; });
});

// On paper nothing can be unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  folded.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => {
  folded.forEach((one) => { one.open = false; });
  folded = [];
});

// A link to a migration unfolds it.
const reveal = () => {
  const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (found instanceof HTMLDetailsElement) { found.open = true; }
};
addEventListener("hashchange", reveal);
reveal();

const place = document.getElementById("diagram");
if (place) {
  const picture = place.querySelector("svg");
  const controls = document.querySelector(".zoom");
  const level = controls.querySelector("output");
  const natural = picture.viewBox.baseVal;
  let scale = 1;

  // What is in the middle, or under the pointer, stays there.
  const zoomTo = (wanted, x = place.clientWidth / 2, y = place.clientHeight / 2) => {
    const next = Math.min(3, Math.max(0.05, wanted));
    const left = (place.scrollLeft + x) * next / scale - x;
    const top = (place.scrollTop + y) * next / scale - y;
    scale = next;
    picture.style.width = `${natural.width * scale}px`;
    picture.style.height = `${natural.height * scale}px`;
    place.scrollTo(left, top);
    level.textContent = `${Math.round(scale * 100)} %`;
  };
  const fit = () => zoomTo(Math.min(1, place.clientWidth / natural.width));
  const acts = { in: () => zoomTo(scale * 1.25), out: () => zoomTo(scale / 1.25), fit };
  const keys = { "+": "in", "=": "in", "-": "out", "0": "fit" };

  controls.hidden = false;
  controls.querySelectorAll("button").forEach((button) => {
    button.addEventListener("click", acts[button.dataset.zoom]);
  });
  place.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (act) { event.preventDefault(); acts[act](); }
  });
  place.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) { return; }
    event.preventDefault();
    const box = place.getBoundingClientRect();
    zoomTo(scale * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  place.addEventListener("pointermove", (event) => {
    if (event.buttons === 1 && event.pointerType === "mouse") {
      event.preventDefault();
      place.scrollBy(-event.movementX, -event.movementY);
    }
  });
  fit();
}
