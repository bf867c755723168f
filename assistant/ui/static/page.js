// What the page does by itself, without asking Gradio: it fetches pieces of HTML from this server and puts them in place.
//   <div data-load="/page/...">                 is filled as soon as it is seen, and again after refresh(element)
//   <form data-get="/page/..." data-into="id">  is sent with each key and choice; only the answer to the last one is shown
//   <a data-sheet href="/page/...">             opens in the sheet, a dialog over the page
// Nothing is fetched from anywhere else; no key is kept in the browser.

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) (seen.unobserve(target), refresh(target));
});

/** Fetch a piece of HTML; a failure is told in its place. */
export async function fragment(url, options = {}) {
  try {
    const reply = await fetch(url, { credentials: "same-origin", ...options });
    if (reply.status < 500) return await reply.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  const fault = document.createElement("p");
  fault.className = "fault";
  fault.role = "alert";
  fault.textContent = "The server does not answer as it should; look at its terminal, then reload this page.";
  return fault.outerHTML;
}

/** Put HTML of this server into an element, and tell whoever draws in it. */
export function place(element, html) {
  element.innerHTML = html;
  element.removeAttribute("aria-busy");
  element.dispatchEvent(new CustomEvent("placed", { bubbles: true }));
}

/** Fill an element with data-load anew. */
export async function refresh(element) {
  element.setAttribute("aria-busy", "true");
  const url = element.dataset.load;
  const html = await fragment(url);
  if (element.dataset.load === url) place(element, html); // else something else was asked for meanwhile
}

const voice = document.createElement("p");
voice.id = "voice";
voice.role = "status";
document.body.append(voice);
let silence = 0;

/** Tell a person something: by ear, and where it matters to the eye as well. */
export function announce(text, { alert = false } = {}) {
  voice.textContent = text;
  voice.classList.toggle("alert", alert && text !== "");
  clearTimeout(silence);
  if (alert) silence = setTimeout(() => voice.classList.remove("alert"), 9000);
}

const latest = new WeakMap();

/** Send a form with data-get, and show its answer unless a later one was sent. */
export async function submit(form) {
  latest.get(form)?.abort();
  const control = new AbortController();
  latest.set(form, control);
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  const target = document.getElementById(form.dataset.into);
  try {
    const html = await fragment(`${form.dataset.get}?${query}`, { signal: control.signal });
    if (latest.get(form) === control) place(target, html);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

/** Show a piece of HTML over the page; Escape and the back of the sheet close it. */
export async function openSheet(url) {
  const sheet = document.getElementById("sheet");
  place(sheet.querySelector(".sheet-body"), await fragment(url));
  if (!sheet.open) sheet.showModal();
  sheet.querySelector(".sheet-body").scrollTop = 0;
  sheet.querySelector("mark")?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("input", ({ target }) => target.form?.dataset.get && submit(target.form));
document.addEventListener("submit", (event) => {
  if (!event.target.dataset.get) return;
  event.preventDefault();
  submit(event.target);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-sheet]");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    openSheet(link.getAttribute("href"));
  }
  if (event.target.closest?.("[data-close]") || event.target.id === "sheet") document.getElementById("sheet").close();
});

function watch() {
  for (const each of document.querySelectorAll("[data-load]:not([data-seen])")) {
    each.dataset.seen = "";
    seen.observe(each);
  }
}
new MutationObserver(watch).observe(document.body, { childList: true, subtree: true });
watch();

const sheet = document.createElement("dialog");
sheet.id = "sheet";
sheet.setAttribute("aria-label", "Details");
sheet.innerHTML = '<button type="button" class="close" data-close aria-label="Close">×</button><div class="sheet-body"></div>';
document.body.append(sheet);

// --- Light and dark: as the system has it, until somebody chooses ------------------------------------------------------

let chosen = null; // where a browser keeps nothing, the choice lasts as long as the page

/** Keep which one was chosen, if it is told; return the choice. */
function keep(choice) {
  try {
    if (choice) localStorage.setItem("scheme", choice);
    return localStorage.getItem("scheme");
  } catch {
    return (chosen = choice ?? chosen);
  }
}

const scheme = () => keep() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
function paint() {
  document.body.classList.toggle("dark", scheme() === "dark");
}
document.addEventListener("click", ({ target }) => {
  if (!target.closest?.("#theme")) return;
  keep(scheme() === "dark" ? "light" : "dark");
  paint();
});
new MutationObserver(() => document.body.classList.contains("dark") !== (scheme() === "dark") && paint()).observe(
  document.body, { attributes: true, attributeFilter: ["class"] },
);
paint();
