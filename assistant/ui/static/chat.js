// The conversation's own ways: cards follow the answer, markers lead to them and preview their quote, answers are copied,
// asked again and rated. What is said is Gradio's to show; here only what is fetched beside it.
import { announce, fragment, place } from "./page.js";

const CARD_WAIT_MS = 4000;
const sources = () => document.getElementById("sources");
let conversation = "";

// --- The line that tells of news --------------------------------------------------------------------------------------

let told = "";

function listen(element) {
  const hear = () => {
    const text = element.querySelector("code")?.textContent ?? "";
    const line = element.textContent.trim();
    if (line === told) return;
    told = line;
    if (text === "told") return announce(line.slice(text.length).trim(), { alert: true });
    if (text === "new") return clear();
    const [id, turn, version, saved] = text.split(" ");
    if (!/^\d+$/.test(turn ?? "")) return; // it is being written just now
    const state = version.split("-")[0];
    announce({ searching: "Searching", reading: "Reading", writing: "Writing", done: "The answer is complete" }[state] ?? "");
    const rest = line.slice(text.length).trim();
    if (rest) announce(rest, { alert: true });
    if (saved === "saved" && id !== conversation) {
      const address = new URL(location);
      if (address.searchParams.get("c") !== id) {
        address.search = `?c=${id}`;
        address.hash = "";
        history.replaceState(null, "", address);
      }
    }
    show(id, Number(turn));
  };
  new MutationObserver(hear).observe(element, { childList: true, subtree: true, characterData: true });
  hear();
}

let asked = 0;
const HINT = '<p class="quiet">The papers behind an answer appear here, the quoted sentences marked.</p>';

/** Show no conversation, and have none in the address. */
function clear() {
  asked += 1;
  conversation = "";
  place(sources(), HINT);
  document.getElementById("take-along").hidden = true;
  history.replaceState(null, "", "/");
}

/** Fetch the cards of an exchange that changed, or of all when the conversation is another one. */
async function show(id, turn) {
  const request = ++asked;
  const known = conversation === id && document.getElementById(`sources-${turn - 1}`) !== null && turn > 1;
  const query = new URLSearchParams({ c: id, ...(known || (turn === 1 && conversation === id) ? { turn } : {}) });
  conversation = id;
  const html = await fragment(`/page/sources?${query}`);
  if (request !== asked) return;
  const made = new DOMParser().parseFromString(html, "text/html");
  const later = [...sources().querySelectorAll(".turn")].filter((each) => Number(each.id.slice(8)) > turn);
  for (const each of later) each.remove();
  if (!query.has("turn")) place(sources(), html);
  else {
    const old = document.getElementById(`sources-${turn}`);
    const fresh = made.querySelector(".turn");
    if (!fresh) place(sources(), html);
    else if (old) old.replaceWith(fresh);
    else {
      for (const each of sources().querySelectorAll(".turn[open]")) each.open = false;
      sources().querySelector(":scope > p")?.remove();
      sources().prepend(fresh);
    }
  }
  takeAlong(id);
  if (location.hash.startsWith("#src-") && !sources().dataset.opened) {
    sources().dataset.opened = "";
    open(location.hash.slice(1));
  }
}

/** Offer the conversation in the forms that other programs read. */
async function takeAlong(id) {
  const area = document.getElementById("take-along");
  if (area.dataset.of === id) return;
  area.dataset.of = id;
  place(area, await fragment(`/page/saved/${encodeURIComponent(id)}/take-along`));
  area.hidden = area.querySelector("a") === null;
}

// --- Markers and cards ------------------------------------------------------------------------------------------------

/** Open the card of a marker, light it up, and bring it into sight. */
async function open(id) {
  const end = performance.now() + CARD_WAIT_MS;
  let card = document.getElementById(id);
  while (!card && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    card = document.getElementById(id);
  }
  if (!card) return;
  for (let each = card; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  for (const each of document.querySelectorAll(".lit")) each.classList.remove("lit");
  card.classList.add("lit");
  card.scrollIntoView({ block: "nearest" });
  card.focus({ preventScroll: true });
}

const preview = document.createElement("div");
preview.id = "preview";
preview.role = "tooltip";
preview.hidden = true;
document.body.append(preview);

function peek(marker) {
  const [, turn, order] = marker.id.split("-");
  const card = document.getElementById(marker.hash.slice(1));
  if (!card) return;
  const own = [...card.querySelectorAll("mark")].filter((each) => each.dataset.places.split(" ").includes(order));
  const title = document.createElement("strong");
  title.textContent = card.querySelector("h4").textContent.trim();
  const quote = document.createElement("q");
  quote.dir = "auto";
  for (const each of own) quote.append(...[...each.childNodes].map((node) => node.cloneNode(true)), " ");
  preview.replaceChildren(title, quote);
  if (marker.classList.contains("doubt")) {
    const doubt = document.createElement("em");
    doubt.textContent = marker.title;
    preview.append(doubt);
  }
  preview.hidden = false;
  const at = marker.getBoundingClientRect();
  const { width, height } = preview.getBoundingClientRect();
  preview.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
  preview.style.top = `${at.bottom + height + 8 < innerHeight ? at.bottom + 6 : Math.max(8, at.top - height - 6)}px`;
  marker.setAttribute("aria-describedby", "preview");
}

function leave() {
  preview.hidden = true;
  document.querySelector('[aria-describedby="preview"]')?.removeAttribute("aria-describedby");
}

for (const [enter, exit] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  document.addEventListener(enter, ({ target }) => {
    const marker = target.closest?.("#chat a.mark");
    if (marker) peek(marker);
  });
  document.addEventListener(exit, ({ target }) => target.closest?.("#chat a.mark") && leave());
}
document.addEventListener("keydown", (event) => event.key === "Escape" && leave());
document.addEventListener("scroll", leave, true);

document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#src-"], a[href^="#sources-"], a[href^="#at-"], a[href="#question"]');
  if (!link) return;
  event.preventDefault();
  leave();
  const id = link.hash.slice(1);
  if (id.startsWith("src-") || id.startsWith("sources-")) {
    const address = new URL(location);
    address.hash = id;
    history.replaceState(null, "", address);
    open(id);
  } else if (id === "question") document.querySelector("#question textarea").focus();
  else {
    const marker = document.getElementById(id);
    marker?.scrollIntoView({ block: "center" });
    marker?.focus({ preventScroll: true });
    marker?.classList.add("lit");
    setTimeout(() => marker?.classList.remove("lit"), 1600);
  }
});

// --- What can be done with an answer ----------------------------------------------------------------------------------

/** Give a text to a box of Gradio's. */
function fill(selector, text) {
  const box = document.querySelector(selector);
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  return box;
}

/** Put a question into the box, to be sent in place of an earlier one. */
function compose(text, replaces = "") {
  fill("#replaces textarea, #replaces input", replaces);
  const box = fill("#question textarea", text);
  document.getElementById("ask").dataset.replaces = replaces;
  box.focus();
  box.setSelectionRange(text.length, text.length);
}

function send() {
  setTimeout(() => document.getElementById("send").click(), 60); // Gradio takes in the boxes first
}

const acts = {
  async copy(turn, button) {
    try {
      await navigator.clipboard.writeText(await text("answer", turn));
    } catch {
      return announce("It could not be copied; the browser or the server refused.", { alert: true });
    }
    announce("Copied, with its sources.");
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1600);
  },
  async retry(turn) {
    if (await recall(turn)) send();
  },
  edit: (turn) => recall(turn),
  like: (turn, button) => rate(turn, "like", button),
  dislike: (turn, button) => rate(turn, "dislike", button),
};

/** Fetch a text of an exchange of this conversation. */
async function text(what, turn) {
  const reply = await fetch(`/page/${what}?${new URLSearchParams({ c: conversation, turn })}`);
  if (!reply.ok) throw new Error(reply.statusText);
  return reply.text();
}

/** Put the question of an exchange into the box again; tell whether it is there. */
async function recall(turn) {
  try {
    compose(await text("question", turn), turn);
    return true;
  } catch {
    announce("This conversation is not to be found any more; begin a new one.", { alert: true });
    return false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#chat button.act");
  if (!button) return;
  const [act, turn] = button.id.split("-");
  acts[act]?.(turn, button);
});

const rating = document.createElement("dialog");
rating.id = "rating";
rating.setAttribute("aria-labelledby", "rating-title");
rating.innerHTML =
  '<form method="dialog"><h2 id="rating-title"></h2><label>In a word, if you like<input name="word" maxlength="500"></label>' +
  '<p><button value="save" class="primary">Save</button> <button value="" type="button" data-skip>Without a word</button></p></form>';
document.body.append(rating);

async function rate(turn, verdict, button) {
  const taken = button.classList.contains("on");
  const post = (word) => {
    const body = new URLSearchParams({ c: conversation, turn, verdict: taken ? "" : verdict, word });
    return fetch("/page/feedback", { method: "POST", body });
  };
  const reply = await post("");
  if (!reply.ok) return announce("This could not be saved.", { alert: true });
  for (const each of button.parentElement.querySelectorAll('[id^="like-"], [id^="dislike-"]')) each.classList.remove("on");
  if (taken) return announce("Taken back.");
  button.classList.add("on");
  rating.querySelector("h2").textContent = verdict === "like" ? "What is good about it?" : "What is wrong with it?";
  rating.querySelector("input").value = "";
  rating.returnValue = "";
  rating.onclose = async () => {
    const word = rating.querySelector("input").value.trim();
    if (rating.returnValue === "save" && word) await post(word);
    announce("Thank you, noted.");
    button.focus();
  };
  rating.showModal();
}
rating.addEventListener("click", ({ target }) => target.matches("[data-skip]") && rating.close(""));

// --- Beginning anew, editing, and what other tabs send ----------------------------------------------------------------

document.addEventListener("click", ({ target }) => {
  if (target.closest?.("#new")) {
    [...document.querySelectorAll('[role="tab"]')].find((each) => each.textContent.trim() === "Ask")?.click();
    compose("");
    document.getElementById("begin").click();
  }
  if (target.closest?.("#cancel-edit")) compose("");
});
document.addEventListener("library", () => document.getElementById("introduce")?.click());
document.addEventListener("ask", ({ detail }) => {
  document.getElementById("sheet").close();
  [...document.querySelectorAll('[role="tab"]')].find((each) => each.textContent.trim() === "Ask")?.click();
  compose(detail.question);
  send();
});

const cancel = document.createElement("p");
cancel.id = "editing";
cancel.innerHTML = 'This question takes the place of the earlier one. <button type="button" id="cancel-edit">Cancel</button>';

/** Give Gradio's elements what they lack: a say for those who read by ear, and a line that tells of an edit. */
function attend() {
  const pulse = document.getElementById("pulse");
  if (pulse && !pulse.dataset.heard) {
    pulse.dataset.heard = "";
    listen(pulse);
  }
  const ask = document.getElementById("ask");
  if (ask && !cancel.isConnected) ask.before(cancel);
  if (ask) {
    const box = document.querySelector("#replaces textarea, #replaces input");
    cancel.hidden = !(box && box.value);
  }
  for (const each of document.querySelectorAll('#chat .examples[role="list"]')) {
    each.setAttribute("role", "group");
    each.setAttribute("aria-label", "Questions to begin with");
  }
  for (const each of document.querySelectorAll('#chat [aria-label*="message:"]')) {
    each.setAttribute("role", "group");
    each.setAttribute("aria-label", each.dataset.testid === "user" ? "Question" : "Answer");
  }
}
let attending = false;
function attendSoon() {
  if (attending) return; // once for each frame, however much is written in it
  attending = true;
  requestAnimationFrame(() => {
    attending = false;
    attend();
  });
}
new MutationObserver(attendSoon).observe(document.body, { childList: true, subtree: true });
document.addEventListener("input", attendSoon);
attend();
