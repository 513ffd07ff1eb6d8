// Legend buttons show and hide a policy in the charts. Without this script the page is complete.
document.documentElement.classList.add("js");
for (const button of document.querySelectorAll("button[data-toggle]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    const policy = button.dataset.toggle;
    for (const twin of document.querySelectorAll(`button[data-toggle="${policy}"]`)) {
      twin.setAttribute("aria-pressed", String(shown));
    }
    for (const mark of document.querySelectorAll(`[data-policy="${policy}"]`)) {
      mark.classList.toggle("off", !shown);
    }
  });
}
