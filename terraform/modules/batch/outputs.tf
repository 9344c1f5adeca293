output "job_queue_arns" {
  description = "The job queues by kind."
  value       = { for kind, queue in aws_batch_job_queue.this : kind => queue.arn }
}

output "job_definition_arns" {
  description = "The job definitions, by name and with any revision: jobs are submitted by name."
  value       = flatten([for definition in aws_batch_job_definition.trainer : [definition.arn_prefix, "${definition.arn_prefix}:*"]])
}

output "log_group_name" {
  description = "Where the trainer's logs are."
  value       = aws_cloudwatch_log_group.jobs.name
}

output "log_group_arn" {
  description = "Its ARN."
  value       = aws_cloudwatch_log_group.jobs.arn
}

output "repository_url" {
  description = "Where images are pushed."
  value       = aws_ecr_repository.trainer.repository_url
}
