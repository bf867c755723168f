// The library tab: its filters, its pages, a paper's page in the sheet, papers that are added and removed.

import { announce, fragment, openSheet, place, refresh, submit } from "./page.js";

const POLL_MS = 400;
const form = () => document.getElementById("library-form");
const sheet = () => document.getElementById("sheet");
let wanted = null; // filters chosen before the tab has its form

/** Show the papers that these filters leave, in the library tab. */
async function filterBy(values) {
  if (sheet()?.open) sheet().close();
  wanted = values;
  const tab = () => document.getElementById("library-tab-button");
  while (!tab()) await new Promise((done) => setTimeout(done, POLL_MS)); // a paper may be shown before the tabs are
  tab().click();
  applyFilters();
}

function applyFilters() {
  if (!wanted || !form()) return;
  for (const each of form().querySelectorAll("input")) each.value = wanted[each.name] ?? "";
  wanted = null;
  send();
  form().elements.text.focus({ preventScroll: true });
  form().scrollIntoView({ block: "nearest" });
}

/** Ask for a page of what matches; the first one unless told otherwise. */
function send(page = "") {
  form().elements.page.value = page;
  submit(form());
  form().elements.page.value = "";
}

/** Show the library as it is now; what was typed stays. */
async function renew() {
  document.dispatchEvent(new CustomEvent("library"));
  const tab = document.querySelector('[data-load="/page/library"]');
  if (!tab?.firstChild) return;
  const fresh = new DOMParser().parseFromString(await fragment("/page/library"), "text/html");
  if (!form() || !fresh.getElementById("library-form")) return place(tab, fresh.body.innerHTML);
  for (const id of ["library-summary", "library-about"]) document.getElementById(id).replaceWith(fresh.getElementById(id));
  send();
}

let adding = false;

/** Send what was dropped and pasted; it stays in its place until it is let in. */
async function add(filled) {
  adding = true;
  filled.querySelector("button").disabled = true;
  const outcome = document.getElementById("library-outcome");
  outcome.textContent = "Sending…";
  place(outcome, await fragment("/page/library/add", { method: "POST", body: new FormData(filled) }));
}

/** Follow an addition to its end, then show what it changed. */
function follow(outcome) {
  const filled = document.getElementById("library-add-form"), ended = outcome.querySelector("[data-refused]");
  if (outcome.querySelector("[data-running]")) {
    adding = filled.querySelector("button").disabled = true;
    setTimeout(refresh, POLL_MS, outcome);
  } else if (adding) {
    adding = filled.querySelector("button").disabled = false;
    if (!ended) return;
    filled.elements.files.value = "";
    choose(filled);
    if (ended.dataset.refused === "0") filled.elements.text.value = "";
    announce(ended.querySelector("p").innerText);
    renew();
  }
}

function choose(filled) {
  const names = [...filled.elements.files.files].map((file) => Object.assign(document.createElement("li"), { textContent: file.name }));
  filled.querySelector(".chosen").replaceChildren(...names);
}

async function remove(id) {
  const reply = await fragment("/page/library/remove", { method: "POST", body: new URLSearchParams({ ids: id }) });
  place(sheet().querySelector(".sheet-body"), reply);
  renew();
}

async function copy(element) {
  const told = element.closest(".paper").querySelector(".told"), text = document.getElementById(element.dataset.copy);
  try {
    await navigator.clipboard.writeText(text.textContent);
    told.textContent = "The citation is copied, as BibTeX.";
  } catch {
    text.closest("details").open = true;
    told.textContent = "The browser does not let it be copied: it is shown below.";
  }
}

function unfold(element) {
  const part = document.getElementById(element.dataset.unfold);
  part.hidden = !part.hidden;
  const opener = part.parentElement.querySelector(`[data-unfold="${part.id}"][aria-expanded]`);
  opener.setAttribute("aria-expanded", String(!part.hidden));
  (part.hidden ? opener : part.querySelector("button")).focus();
}

const CLICKS = {
  author: (each) => filterBy({ author: each.dataset.author }),
  venue: (each) => filterBy({ venue: each.dataset.venue }),
  from: (each) => filterBy({ from: each.dataset.from, to: each.dataset.to }),
  page: (each) => (send(each.dataset.page), form().scrollIntoView({ block: "start" })),
  more: (each) => (each.parentElement.querySelectorAll("li[hidden]").forEach((li) => (li.hidden = false)), each.remove()),
  ask: (each) => (sheet().close(), document.dispatchEvent(new CustomEvent("ask", { detail: { question: each.dataset.ask } }))),
  copy,
  unfold,
  remove: (each) => remove(each.dataset.remove),
};

document.addEventListener("click", ({ target }) => {
  for (const [name, act] of Object.entries(CLICKS)) {
    const each = target.closest?.(`.library [data-${name}], .paper [data-${name}]`);
    if (each) return act(each);
  }
});

document.addEventListener("submit", (event) => {
  if (event.target.id !== "library-add-form") return;
  event.preventDefault();
  add(event.target);
});
document.addEventListener("change", ({ target }) => target.matches?.("#library-add-form [type=file]") && choose(target.form));

// After its own reset a form holds what it began with.
document.addEventListener("reset", ({ target }) => target === form() && setTimeout(send));

// Arrow keys lead from the search into the papers, and through them.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], at = event.target;
  if (!step || !at.closest?.('#library-papers .papers, #library-form [name="text"]')) return;
  const stops = [form().elements.text, ...document.querySelectorAll("#library-papers .papers a")];
  event.preventDefault();
  stops[stops.indexOf(at) + step]?.focus();
});

document.addEventListener("placed", ({ target }) => {
  if (target.id === "library-papers") {
    announce(target.querySelector("[data-said]")?.innerText ?? "");
  }
  if (target.dataset.load === "/page/library") applyFilters();
  if (target.id === "library-outcome") follow(target);
  if (target.classList.contains("sheet-body") && sheet().open) target.querySelector("h2")?.focus();
});

const linked = new URLSearchParams(location.search).get("paper");
if (linked) openSheet(`/page/paper?id=${encodeURIComponent(linked)}`);
