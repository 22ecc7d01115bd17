--- `:Midfill <subcommand>`
local client = require("midfill.client")

local M = {}

---@param text string
local function notify(text)
  vim.notify("Midfill: " .. text)
end

---@param text string
local function show_in_split(text)
  vim.cmd.new()
  vim.bo.buftype, vim.bo.bufhidden, vim.bo.swapfile = "nofile", "wipe", false
  vim.api.nvim_buf_set_lines(0, 0, -1, false, vim.split(text, "\n", { plain = true }))
end

---Runs one of the server's commands.
---@param name string
---@param on_result? fun(result: any)
local function execute(name, on_result)
  local running = client.running()
  if not running then
    return notify("the language server is not running; see :checkhealth midfill")
  end
  client.execute(running, name, function(err, result)
    if err then
      notify(err.message)
    elseif on_result and result ~= nil then
      on_result(result)
    end
  end)
end

---@type table<string, fun()>
local subcommands = {
  toggle = function()
    execute("midfill.toggle")
  end,
  status = function()
    local status = require("midfill.status").get()
    if not status then
      return notify("not attached to this buffer")
    end
    local message = status.message or ""
    notify((status.busy and "busy" or status.kind) .. (message ~= "" and ": " .. message or ""))
  end,
  log = function()
    -- The server asks back by window/showDocument.
    execute("midfill.showLog")
  end,
  doctor = function()
    execute("midfill.doctor", show_in_split)
  end,
  restart = function()
    if vim.fn.has("nvim-0.12") == 0 then
      return notify("to restart the language server takes Neovim 0.12; start Neovim again")
    end
    vim.cmd.lsp({ "restart", "midfill" })
  end,
}

---@param args vim.api.keyset.create_user_command.command_args
function M.run(args)
  local subcommand = subcommands[args.args]
  if not subcommand then
    return notify("no such subcommand; there are " .. table.concat(M.complete(""), ", "))
  end
  subcommand()
end

---@param typed string
---@return string[]
function M.complete(typed)
  local names = vim.tbl_filter(function(name)
    return vim.startswith(name, typed)
  end, vim.tbl_keys(subcommands))
  table.sort(names)
  return names
end

return M
