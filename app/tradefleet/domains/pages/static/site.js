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

// A 503 also names what is missing. A body that is not JSON, or no response, is an error on the way.
ask("/readyz")
  .then((found) => found.status, () => "not reachable")
  .then((status) => (document.getElementById("status").textContent = status));
ask("/v1/instruments")
  .then((page) => page.items.forEach(show))
  .catch(() => {}); // the list stays empty, and the line above shows the reason
