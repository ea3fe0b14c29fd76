// Names no other file, as in site.css.
"use strict";

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  return answer.json();
}

function show(instrument) {
  const item = document.createElement("li");
  item.textContent = instrument.symbol;
  document.getElementById("instruments").append(item);
}

// A 503 says what is missing, too; what is no JSON, or no answer, is an error of the way there.
ask("/readyz")
  .then((found) => found.status, () => "not reachable")
  .then((status) => (document.getElementById("status").textContent = status));
ask("/v1/instruments")
  .then((page) => page.items.forEach(show))
  .catch(() => {}); // the list stays empty, and the line above says why
