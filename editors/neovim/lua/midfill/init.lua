--- Midfill: self-hosted inline code completion. See `:help midfill`.
local M = {}

---Starts the language server for every file and shows its completions as ghost text. Called again, it changes the
---settings; before Neovim 0.12, completions come in the popup menu.
---@param options? midfill.Options
function M.setup(options)
  if vim.fn.has("nvim-0.10") == 0 then
    local message = "Midfill needs Neovim 0.10 or newer; this is %s."
    vim.notify(message:format(tostring(vim.version())), vim.log.levels.ERROR)
    return
  end
  -- Where a plugin manager was given the folder above, this has not run yet; a second time does nothing.
  vim.cmd.runtime("plugin/midfill.lua")
  local plugin, settings, unknown = require("midfill.config").split(options or {})
  if #unknown > 0 then
    vim.notify("Midfill: no such option: " .. table.concat(unknown, ", "), vim.log.levels.WARN)
  end
  require("midfill.client").configure(settings)
  if vim.fn.has("nvim-0.12") == 0 then
    return require("midfill.fallback").setup(plugin, settings)
  end
  vim.lsp.config("midfill", {
    cmd = plugin.cmd,
    filetypes = plugin.filetypes,
    init_options = settings,
    settings = { midfill = settings },
  })
  vim.lsp.enable("midfill")
  vim.lsp.inline_completion.enable()
  local keymaps = require("midfill.keymaps")
  for _, action in ipairs(plugin.keymaps and keymaps.actions or {}) do
    if plugin.keymaps[action] then
      keymaps.map(plugin.keymaps[action], action)
    end
  end
end

---Accepts what is shown.
---@param otherwise? fun() runs when nothing is shown
function M.accept(otherwise)
  require("midfill.accept").accept(otherwise)
end

---Accepts the next word of what is shown.
---@param otherwise? fun() runs when nothing is shown
function M.accept_word(otherwise)
  require("midfill.accept").accept_word(otherwise)
end

---Accepts the rest of the line of what is shown, or the next line.
---@param otherwise? fun() runs when nothing is shown
function M.accept_line(otherwise)
  require("midfill.accept").accept_line(otherwise)
end

---Shows the next candidate.
function M.next()
  vim.lsp.inline_completion.select({ count = 1 })
end

---Shows the previous candidate.
function M.prev()
  vim.lsp.inline_completion.select({ count = -1 })
end

---Asks for completions here and now.
function M.trigger()
  if not require("midfill.ghost").trigger(vim.api.nvim_get_current_buf()) then
    vim.notify("Midfill is not active in this buffer.", vim.log.levels.INFO)
  end
end

---@return string # for a statusline
function M.statusline()
  return require("midfill.status").line()
end

return M
