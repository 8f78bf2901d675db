"use strict";
(() => {
  addEventListener("beforeprint", () => document.querySelectorAll("details.missing").forEach((each) => { each.open = true; }));

  // ---- the roll-out browser ----
  const source = document.getElementById("rollout-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const get = (id) => document.getElementById(id);
  const shown = new Set(data.shown);
  let current = 0;

  // Model output only ever becomes text, never markup.
  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) { made.textContent = text; made.dir = "auto"; }
    return made;
  }
  function option(select, value, text) {
    const made = element("option", "", text);
    made.value = value;
    select.append(made);
  }
  const seed = () => Number(get("seed").value);
  function episode(question, arm) {
    const place = question.episodes[arm]?.[seed()];
    return place === undefined || place === null ? null : data.episodes[place];
  }
  const outcomes = (question) => [...shown].sort((a, b) => a - b).map((arm) => episode(question, arm)?.success ?? null);
  const filters = {
    all: () => true,
    disagree: (known) => known.includes(true) && known.includes(false),
    none: (known) => known.length > 0 && !known.includes(true),
    every: (known) => known.length > 0 && !known.includes(false),
  };
  function passes(question) {
    const filter = get("filter").value;
    const arms = [...shown].sort((a, b) => a - b);
    const all = outcomes(question);
    if (filter.startsWith("only-")) {
      const only = Number(filter.slice(5));
      return arms.every((arm, place) => (arm === only ? all[place] === true : all[place] !== true));
    }
    return filters[filter](all.filter((each) => each !== null));
  }
  const text = (index) => (typeof data.texts[index] === "string" ? data.texts[index] : data.texts[index][0]);
  function contains(question, words) {
    const parts = [question.text, question.reference];
    for (const arm of shown) {
      const found = episode(question, arm);
      if (found) parts.push(found.prediction ?? "", ...found.messages.map(([, index]) => text(index)));
    }
    const whole = parts.join("\n").toLowerCase();
    return words.every((word) => whole.includes(word));
  }

  function fillFilter() {
    const select = get("filter"), before = select.value || "disagree";
    select.replaceChildren();
    option(select, "all", "all");
    option(select, "disagree", "where the shown arms disagree");
    for (const arm of [...shown].sort((a, b) => a - b)) option(select, `only-${arm}`, `only ${data.arms[arm].label} succeeds`);
    option(select, "every", "where every shown arm succeeds");
    option(select, "none", "where no shown arm succeeds");
    select.value = before;
    if (select.selectedIndex < 0) select.value = "all";
  }
  function showList() {
    get("arms-count").textContent = `(${shown.size} of ${data.arms.length})`;
    const words = get("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const places = data.questions.map((_, place) => place)
      .filter((place) => passes(data.questions[place]) && contains(data.questions[place], words));
    get("count").textContent = `${places.length} of ${data.questions.length} questions`;
    if (!places.includes(current)) current = places[0] ?? -1;
    get("questions").replaceChildren(...places.map((place) => {
      const question = data.questions[place];
      const button = element("button");
      button.type = "button";
      const marks = element("span", "marks");
      outcomes(question).forEach((success) => {
        const mark = element("span", success ? "good" : success === false ? "bad" : "", success ? "✓" : success === false ? "✗" : "–");
        marks.append(mark);
      });
      const known = outcomes(question).filter((each) => each !== null);
      marks.setAttribute("role", "img");
      marks.setAttribute("aria-label", `${known.filter(Boolean).length} of ${known.length} shown arms succeed:`);
      button.append(marks, element("span", "text", question.text));
      button.setAttribute("aria-current", String(place === current));
      button.addEventListener("click", () => { choose(place, places); });
      const item = element("li");
      item.append(button);
      return item;
    }));
    showQuestion(places);
  }
  function choose(place, places) {
    current = place;
    [...get("questions").querySelectorAll("button")].forEach((button, row) => {
      button.setAttribute("aria-current", String(places[row] === place));
      if (places[row] === place) {
        const list = get("questions"), item = button.parentElement;
        // Scrolls the list only: scrollIntoView would move the page as well.
        if (item.offsetTop < list.scrollTop + list.offsetTop) list.scrollTop = item.offsetTop - list.offsetTop;
        const below = item.offsetTop + item.offsetHeight - list.offsetTop - list.clientHeight;
        if (below > list.scrollTop) list.scrollTop = below;
      }
    });
    showQuestion(places);
  }
  function showQuestion(places) {
    const box = get("episodes");
    if (current < 0) {
      box.replaceChildren(element("p", "note", "No question passes the filter with the arms shown."));
      return;
    }
    const question = data.questions[current];
    const head = element("div", "question");
    head.append(element("h3", "", `Question ${places.indexOf(current) + 1} of ${places.length}`));
    head.append(element("p", "text", question.text));
    head.append(element("p", "note", `Reference answer: ${question.reference || "not known"}`));
    [["previous", -1], ["next", 1]].forEach(([name, step]) => {
      const button = element("button", "quiet-button", name);
      button.type = "button";
      const target = places[places.indexOf(current) + step];
      button.disabled = target === undefined;
      button.addEventListener("click", () => {
        choose(target, places);
        const again = [...get("episodes").querySelectorAll(".quiet-button")].find((each) => each.textContent === name);
        (again.disabled ? get("episodes").querySelector(".quiet-button:not(:disabled)") : again)?.focus();
      });
      head.append(button, " ");
    });
    const columns = element("div", "columns");
    for (const arm of [...shown].sort((a, b) => a - b)) columns.append(column(question, arm));
    if (!shown.size) columns.append(element("p", "note", "No arm is ticked above."));
    box.replaceChildren(head, columns);
  }
  function column(question, arm) {
    const found = episode(question, arm);
    const made = element("article", `episode ${found ? (found.success ? "yes" : "no") : ""}`);
    made.append(element("h4", "", data.arms[arm].label));
    if (!found) {
      made.append(element("p", "note", `No roll-out of this question with seed ${data.seeds[seed()]} is at hand.`));
      return made;
    }
    const failure = (found.failure ?? "failed").replaceAll("_", " ");
    made.append(element("span", "badge", found.success ? "✓ success" : `✗ ${failure}`));
    const answer = found.prediction === null ? "No answer" : `Answered: ${found.prediction}`;
    const score = !found.success && found.score ? `, score ${found.score}` : "";
    made.append(element("p", "note", answer + score));
    const turns = element("ol", "turns");
    for (const [role, index] of found.messages) {
      if (role === "skipped") turns.append(element("li", "cut", `${index} messages are left out here`));
      else turns.append(...turn(role, index));
    }
    made.append(turns);
    return made;
  }
  // An agent's turn as its parts: "Thought: …", "Action: …" where it has them.
  function turn(role, index) {
    const cut = typeof data.texts[index] === "string" ? 0 : data.texts[index][1];
    const whole = text(index);
    let parts = [["observation", "Observation", whole]];
    if (role === "assistant") {
      parts = whole.split(/^(?=(?:Thought|Action)\s*\d*:)/m).filter((part) => part.trim()).map((part) => {
        const [, name, rest] = /^(Thought|Action)\s*\d*:\s*([^]*)$/.exec(part) ?? [null, "Turn", part];
        return [name.toLowerCase(), name, rest.trimEnd()];
      });
      if (!parts.length) parts = [["turn", "Turn", "(empty)"]];
    }
    const items = parts.map(([className, name, content]) => {
      const item = element("li", className);
      const kind = element("span", "kind", name);
      item.append(kind, element("p", "part", content));
      return item;
    });
    if (cut) items.at(-1).append(element("span", "cut", `… ${cut} more characters are left out`));
    return items;
  }

  data.arms.forEach((arm, place) => {
    const label = element("label"), box = element("input");
    box.type = "checkbox";
    box.checked = shown.has(place);
    box.addEventListener("change", () => {
      if (box.checked) shown.add(place); else shown.delete(place);
      fillFilter();
      showList();
    });
    label.append(box, element("span", "", arm.label));
    get("arm-choice").append(label);
  });
  data.seeds.forEach((value, place) => option(get("seed"), place, value));
  get("seed-label").hidden = data.seeds.length < 2;
  for (const id of ["filter", "seed"]) get(id).addEventListener("change", showList);
  get("search").addEventListener("input", showList);
  fillFilter();
  if (!data.questions.some(passes)) get("filter").value = "all";
  showList();
  get("browser").hidden = false;
})();
