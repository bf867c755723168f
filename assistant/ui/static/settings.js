// The settings: what came of saving or testing them is told by ear, and brought into sight.

/** Give Gradio's element what it lacks, once it is there. */
function attend() {
  const outcome = document.getElementById("settings-outcome");
  if (!outcome || outcome.role) return;
  outcome.role = "status";
  new MutationObserver(() => outcome.scrollIntoView({ block: "nearest" })).observe(outcome, { childList: true, subtree: true });
}
new MutationObserver(attend).observe(document.body, { childList: true, subtree: true });
