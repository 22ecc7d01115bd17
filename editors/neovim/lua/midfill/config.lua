--- Sorts what is passed to setup() into the plugin's own options and the server's settings.
local M = {}

---@class midfill.PluginOptions
---@field cmd? string[] how to start the language server
---@field filetypes? string[] only these file types (default: all; see also the setting disabledLanguages)
---@field keymaps? table<midfill.Action, string> insert-mode keys; none by default

---@class midfill.Options: midfill.PluginOptions, midfill.Settings

local PLUGIN_OPTIONS = { cmd = "table", filetypes = "table", keymaps = "table" }

---@param settings table
---@param known table
---@param path string
---@return string[] names that no setting has
local function unknown(settings, known, path)
  local names = {}
  for key, value in pairs(settings) do
    if known[key] == nil then
      table.insert(names, path .. key)
    elseif type(value) == "table" and type(known[key]) == "table" and not vim.islist(known[key]) then
      vim.list_extend(names, unknown(value, known[key], path .. key .. "."))
    end
  end
  return names
end

---@param options midfill.Options
---@return midfill.PluginOptions plugin
---@return midfill.Settings settings
---@return string[] unknown
function M.split(options)
  local plugin, settings = {}, vim.empty_dict()
  for key, value in pairs(options) do
    if PLUGIN_OPTIONS[key] then
      assert(type(value) == PLUGIN_OPTIONS[key], ("Midfill: option %s: expected a table"):format(key))
      plugin[key] = value
    else
      settings[key] = value
    end
  end
  local names = unknown(settings, require("midfill.settings"), "")
  for action in pairs(plugin.keymaps or {}) do
    if not vim.tbl_contains(require("midfill.keymaps").actions, action) then
      table.insert(names, "keymaps." .. action)
    end
  end
  return plugin, settings, names
end

return M
