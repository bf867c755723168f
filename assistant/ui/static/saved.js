// Saved conversations: renamed in place, deleted after a second thought, their link copied.
import { announce, fragment, place, submit } from "./page.js";

/** Do something to a conversation, and show the list that the search then finds; return whether it was done. */
async function change(item, act, fields) {
  const body = new URLSearchParams({ ...fields, text: document.getElementById("saved-text").value });
  const html = await fragment(`/page/saved/${encodeURIComponent(item.dataset.id)}/${act}`, { method: "POST", body });
  item.querySelector(".fault")?.remove();
  const isDone = !html.startsWith('<p class="fault"');
  if (isDone) place(document.getElementById("saved-list"), html);
  else item.insertAdjacentHTML("beforeend", html);
  return isDone;
}

/** Give the keyboard a place to go on from, as what it was on is gone. */
function settle(id) {
  const next = document.querySelector(`.saved-list li[data-id="${id}"] .saved-name`);
  (next ?? document.getElementById("saved-text")).focus();
}

const acts = {
  name(item, button) {
    const link = item.querySelector(".saved-name");
    const form = document.createElement("form");
    form.innerHTML =
      '<label>New name <input name="name" maxlength="200" required pattern=".*\\S.*" title="A word or more"></label> ' +
      '<button>Save</button> <button type="button">Cancel</button>';
    const name = form.querySelector("input");
    const cancel = () => (form.replaceWith(link), button.focus());
    name.value = link.textContent;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!(await change(item, "name", { name: name.value }))) return;
      announce("Renamed.");
      settle(item.dataset.id);
    });
    form.querySelector('[type="button"]').addEventListener("click", cancel);
    form.addEventListener("keydown", ({ key }) => key === "Escape" && cancel());
    link.replaceWith(form);
    name.select();
  },
  async delete(item, button) {
    if (button.dataset.sure === undefined) {
      const name = button.getAttribute("aria-label");
      const calm = () => (delete button.dataset.sure, (button.textContent = "Delete"), button.setAttribute("aria-label", name));
      button.dataset.sure = "";
      button.textContent = "Delete for good";
      button.setAttribute("aria-label", name.replace("Delete", "Delete for good"));
      button.addEventListener("blur", calm, { once: true });
      return announce("It cannot be brought back: press again to delete it for good.");
    }
    const next = item.nextElementSibling ?? item.previousElementSibling;
    if (!(await change(item, "delete", {}))) return;
    if (new URL(location).searchParams.get("c") === item.dataset.id) return location.assign("/"); // it is still shown there
    announce("Deleted.");
    settle(next?.dataset.id);
  },
};

async function copyLink(address) {
  try {
    await navigator.clipboard.writeText(address);
    announce("The link is copied; it opens this conversation in this browser.", { alert: true });
  } catch {
    announce("This browser lets no page copy; the address of this page is the link.", { alert: true });
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".saved-acts button");
  if (button) acts[button.dataset.act](button.closest("li"), button);
  const link = event.target.closest?.("[data-permalink]");
  if (link && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    copyLink(link.href);
  }
});

/** Whenever the tab comes into sight again, it shows what was asked meanwhile. */
const inSight = new IntersectionObserver((entries) => {
  const { target, isIntersecting } = entries.at(-1);
  if (isIntersecting && target.dataset.known !== undefined) submit(target.querySelector("form"));
  target.dataset.known = "";
});

document.addEventListener("placed", ({ target }) => {
  if (target.id === "saved" && target.dataset.known === undefined) inSight.observe(target);
  for (const each of target.querySelectorAll?.("#saved time, .saved-list time") ?? [])
    each.textContent = new Date(each.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
});
