"use strict";
// Copy buttons, and times in the reader's own time zone. Nothing else: the pages work without it.

for (const button of document.querySelectorAll(".jhssh-copy")) {
  button.classList.add("jhssh-works");
  button.addEventListener("click", async () => {
    const text = button.previousElementSibling.textContent;
    button.textContent = (await copied(text, button)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// The pages are sandboxed: a browser may refuse them the clipboard, but not what the reader selected.
async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    return document.execCommand("copy");
  }
}

for (const time of document.querySelectorAll("time")) {
  time.title = time.textContent;
  time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
