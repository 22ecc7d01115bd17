--- Insert-mode keys that do what they did before whenever there is nothing to act on.
local M = {}

---What the key is mapped to now, as a function that does it.
---@param lhs string
---@return fun()
local function previous(lhs)
  local map = vim.fn.maparg(lhs, "i", false, true)
  return function()
    local keys, noremap = lhs, true
    if map.callback then
      keys = map.callback()
      if map.expr ~= 1 then
        return
      end
    elseif map.rhs then
      keys = map.expr == 1 and vim.api.nvim_eval(map.rhs) or map.rhs
      noremap = map.noremap == 1
    end
    keys = vim.api.nvim_replace_termcodes(keys or "", true, true, true)
    -- "i": before keys that are waiting already, so that fast typing keeps its order.
    vim.api.nvim_feedkeys(keys, (noremap and "n" or "m") .. "i", false)
  end
end

---@alias midfill.Action "accept"|"accept_word"|"accept_line"|"next"|"prev"|"trigger"
M.actions = { "accept", "accept_word", "accept_line", "next", "prev", "trigger" } ---@type midfill.Action[]

---Maps a key to an action. The accepting actions fall through to the key's earlier meaning when nothing is shown.
---@param lhs string
---@param action midfill.Action
function M.map(lhs, action)
  local desc = "Midfill: " .. action:gsub("_", " ")
  local otherwise = previous(lhs)
  vim.keymap.set("i", lhs, function()
    require("midfill")[action](otherwise)
  end, { desc = desc })
end

return M
