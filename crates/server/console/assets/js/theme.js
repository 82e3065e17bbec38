// The chosen colours, before anything is painted. Not a module: it must not wait.
"use strict";
{
  const chosen = localStorage.getItem("sluice.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
