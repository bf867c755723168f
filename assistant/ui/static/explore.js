// The explore tab but for its map: which view is shown, the search as it is typed, and the papers chosen to be compared.
// What is chosen is kept in this page alone: Map of paper id -> title, in the order of choosing.

import { announce, fragment, place, refresh } from "./page.js";

const PAUSE_MS = 250;
const chosen = new Map();
const filters = new Set();
let view = "search", text = "", timer, control;

const by = (id) => document.getElementById(`explore-${id}`);

// --- Views ---------------------------------------------------------------------------------------------------------

function show(wanted) {
  view = wanted;
  for (const each of document.querySelectorAll("#explore .views button")) {
    const own = each.dataset.view === view;
    own ? each.setAttribute("aria-current", "page") : each.removeAttribute("aria-current");
    by(each.dataset.view).hidden = !own;
  }
  if (view === "compare") compare();
}

// --- Search --------------------------------------------------------------------------------------------------------

/** Return where the results of a search are. */
function resultsOf(text, n = "") {
  const wanted = [["text", text], ...[...filters].map((each) => ["where", each]), ["n", n]];
  return `/page/explore/results?${new URLSearchParams(wanted.filter(([, value]) => value))}`;
}

async function search({ n = "", focus = "" } = {}) {
  clearTimeout(timer);
  control?.abort();
  const own = (control = new AbortController());
  try {
    const url = (by("results").dataset.load = resultsOf(by("text").value, n)); // what is still loaded comes too late
    const html = await fragment(url, { signal: own.signal });
    if (control !== own) return;
    place(by("results"), html);
  } catch (error) {
    if (error.name === "AbortError") return;
    throw error;
  }
  if (focus) (by("results").querySelector(focus) ?? by("text")).focus();
}

// --- Comparison ----------------------------------------------------------------------------------------------------

function choose(id, title, wanted) {
  const most = Number(by("table").dataset.most);
  if (wanted && !chosen.has(id) && chosen.size >= most) {
    announce(`At most ${most} papers can be compared; take one out of the table first.`, { alert: true });
  } else {
    wanted ? chosen.set(id, title) : chosen.delete(id);
    announce(`${title} ${wanted ? "chosen" : "taken out"}; ${chosen.size} to compare.`);
  }
  tell();
}

/** Show everywhere what is chosen. */
function tell() {
  const button = document.querySelector("#explore [data-view=compare]");
  if (button) button.textContent = chosen.size ? `Compare (${chosen.size})` : "Compare";
  for (const each of document.querySelectorAll("#explore [data-compare]")) each.checked = chosen.has(each.dataset.compare);
  for (const each of document.querySelectorAll("#explore [data-add]")) each.disabled = chosen.has(each.dataset.add);
}

async function compare(focus = "") {
  const asked = [...chosen.keys()].join();
  const html = await fragment(`/page/explore/compare?${new URLSearchParams([...chosen.keys()].map((id) => ["ids", id]))}`);
  if (asked !== [...chosen.keys()].join()) return; // it was asked for anew
  place(by("table"), html);
  if (by("table").querySelector(".warn, [data-row]")) {
    const there = new Set([...by("table").querySelectorAll("[data-row]")].map((row) => row.dataset.row));
    for (const id of chosen.keys()) if (!there.has(id)) chosen.delete(id); // removed from the library meanwhile
  }
  tell();
  if (focus) (by("table").querySelector(focus) ?? by("title")).focus();
}

// --- What people do ------------------------------------------------------------------------------------------------

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("#explore button");
  if (!button) return;
  const { view: wanted, where, drop, question, more, first, add, remove, title } = button.dataset;
  if (wanted) show(wanted);
  if (where) filters.add(where), search({ focus: `[data-drop="${CSS.escape(where)}"]` });
  if (drop) filters.delete(drop), search({ focus: "[data-drop]" });
  if (question) by("text").value = question, search(), by("text").focus();
  if (more) search({ n: more, focus: `.hits > li:nth-child(${first}) h3 a` });
  if (add) choose(add, title, true), (by("title").value = ""), by("titles").replaceChildren(), by("title").focus(), compare();
  if (remove) choose(remove, chosen.get(remove) ?? "", false), compare("[data-remove]");
});
document.addEventListener("change", ({ target }) => {
  if (target.matches?.("#explore [data-compare]")) choose(target.dataset.compare, target.dataset.title, target.checked);
});
document.addEventListener("input", ({ target }) => {
  if (target.id !== "explore-text") return;
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE_MS);
});
document.addEventListener("submit", (event) => {
  if (event.target.id !== "explore-form") return;
  event.preventDefault();
  search();
});

// --- What comes and goes -------------------------------------------------------------------------------------------

/** Fill the tab anew when the library has changed since it was filled: by this page, another one, or the command line. */
async function renew(tab) {
  const reply = await fetch("/page/explore/epoch").catch(() => null);
  if (!reply?.ok || (await reply.text()) === tab.dataset.epoch || !tab.isConnected) return;
  text = by("text")?.value ?? "";
  refresh(tab.closest("[data-load]"));
}
const shown = new IntersectionObserver(([{ target, isIntersecting }]) => isIntersecting && renew(target));
document.addEventListener("library", () => document.getElementById("explore") && renew(document.getElementById("explore")));

document.addEventListener("placed", ({ target }) => {
  const tab = target.querySelector(":scope > #explore");
  if (tab) {
    shown.disconnect();
    shown.observe(tab);
    if (by("text")) {
      by("text").value = text;
      by("results").dataset.load = resultsOf(text);
      show(view);
    }
  }
  if (!target.closest(".explore-tab")) return;
  // Beside the papers there is no room for the counts on a phone: they come folded.
  if (matchMedia("(max-width: 860px)").matches) for (const each of target.querySelectorAll(".facets")) each.open = false;
  const said = target.querySelector("[data-said]")?.dataset.said;
  if (said) announce(said);
  tell();
});
