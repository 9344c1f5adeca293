output "api_url" {
  description = "Where the API is."
  value       = var.domain == null ? module.api.url : "https://${var.domain.name}"
}

output "region" {
  description = "The region, which requests are signed for."
  value       = var.region
}

output "domain_target" {
  description = "What a CNAME of the domain must point to, where Terraform does not keep its zone."
  value       = one(module.domain[*].target)
}

output "bucket_name" {
  description = "The bucket of datasets, runs, models and prediction logs (MOOLA_BUCKET)."
  value       = module.storage.bucket_name
}

output "audit_bucket_name" {
  description = "The bucket with object lock."
  value       = module.storage.audit_bucket_name
}

output "table_name" {
  description = "The table (MOOLA_TABLE)."
  value       = module.storage.table_name
}

output "bus_arn" {
  description = "The event bus (MOOLA_BUS)."
  value       = module.events.bus_arn
}

output "signing_key_arn" {
  description = "The key that signs model packages (MOOLA_SIGNING_KEY)."
  value       = module.keys.signing_key_arn
}

output "trusted_keys" {
  description = "Its public key in PEM, and the retired ones (MOOLA_TRUSTED_KEYS)."
  value       = local.trusted_keys
}

output "repository_url" {
  description = "Where the trainer's images are pushed."
  value       = module.batch.repository_url
}

output "job_queue_arns" {
  description = "The job queues by name."
  value       = module.batch.job_queue_arns
}

output "function_names" {
  description = "The functions by their short name."
  value       = { for name, function in module.function : name => function.name }
}

output "dead_letter_queues" {
  description = "Where events end that a function could not handle, by function."
  value       = module.events.dead_letter_queue_names
}

output "alert_topic_arn" {
  description = "The topic of alerts; subscribe a chat or a pager here."
  value       = module.alerts.topic_arn
}

output "dashboard_url" {
  description = "The dashboard."
  value       = module.observability.dashboard_url
}

output "schedule_group_name" {
  description = "The group of schedules, for further ones (MOOLA_SCHEDULE_GROUP)."
  value       = module.events.schedule_group_name
}

output "schedule_role_arn" {
  description = "The role that they publish with (MOOLA_SCHEDULE_ROLE)."
  value       = module.events.schedule_role_arn
}
