"use strict";
(() => {
  // ---- findings by severity ----
  const filter = document.getElementById("severity-filter");
  if (filter) {
    const findings = [...document.querySelectorAll("#findings details.found")];
    const boxes = [...filter.querySelectorAll("input[type=checkbox]")];
    const count = document.getElementById("findings-count");
    const show = () => {
      const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let shown = 0;
      for (const finding of findings) {
        finding.hidden = !wanted.has(finding.dataset.severity);
        shown += !finding.hidden;
      }
      count.textContent = `${shown} of ${findings.length} findings shown`;
    };
    boxes.forEach((box) => box.addEventListener("change", show));
    show();
    filter.hidden = false;
  }

  // ---- open and close all of a section ----
  for (const button of document.querySelectorAll("button[data-all]")) {
    const all = [...document.querySelectorAll(`#${button.dataset.all} details.${button.dataset.kind}`)];
    button.hidden = all.length < 2;
    const name = () => { button.textContent = all.every((each) => each.open) ? "Close all" : "Open all"; };
    button.addEventListener("click", () => {
      const open = !all.every((each) => each.open);
      all.forEach((each) => { each.open = open; });
      name();
    });
    all.forEach((each) => each.addEventListener("toggle", name));
    name();
  }

  // ---- a link to an example opens it ----
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.tagName !== "DETAILS") return;
    target.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  // The hash does not change where the same link is followed twice.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("a[href^='#trajectory-']")?.hash === location.hash) reveal();
  });
  reveal();

  // What is found is printed whole; example trajectories as they are open on the screen.
  addEventListener("beforeprint", () => document.querySelectorAll("details.found").forEach((each) => { each.open = true; }));
})();
