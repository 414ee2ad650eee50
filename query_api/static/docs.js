"use strict";

const run = document.getElementById("run");
run.addEventListener("click", async () => {
  const begun = performance.now();
  const answer = document.getElementById("answer");
  run.disabled = true;
  try {
    const response = await fetch("/graphql", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: document.getElementById("query").value }),
    });
    answer.textContent = JSON.stringify(await response.json(), null, 2);
  } catch (error) {
    answer.textContent = String(error);
  }
  answer.hidden = false;
  document.getElementById("took").textContent = `${Math.round(performance.now() - begun)} ms`;
  run.disabled = false;
});
